//! imgproxy's URL dialect: from the raw path to options and a canonical, allowed source. Knows no pixels and does no I/O.

pub(crate) mod allowed;
mod arguments;
pub(crate) mod formats;
pub(crate) mod known;
pub(crate) mod options;
mod path;
pub(crate) mod presets;
pub(crate) mod signature;
pub(crate) mod source;

use tutti_base::{Problem, Source};
use tutti_service::Tenant;

use self::arguments::Call;
use self::options::Options;
use self::presets::Applier;
use self::source::{LastSegment, refused};
use crate::Config;

/// What a URL asks for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Asked {
    /// All options together.
    pub options: Options,
    /// Of what.
    pub source: Source,
}

/// Reads the raw path below the mount.
///
/// Errors: `Forbidden` for a signature that does not fit and for options that loosen limits; `NotFound` for everything else
/// that is not as the dialect has it, and for refused sources.
pub(crate) fn read(raw: &str, tenant: &Tenant, config: &Config) -> Result<Asked, Problem> {
    let path = path::split(raw)?;
    signature::verify(path.signature, &path.rest, tenant)?;
    let (applier, source_part) = match tenant.only_presets {
        true => presets_only(&path.rest, tenant)?,
        false => options(&path.rest, tenant)?,
    };
    let last = match config.base64_url_includes_filename {
        true => LastSegment::FileName,
        false => LastSegment::Source,
    };
    let text = source::decode(source_part, last)?;
    let applier = with_extension(applier, text.extension)?;
    let source = source::canonical(&allowed::rewrite(text.text, tenant))?;
    allowed::check(&source, tenant)?;
    Ok(Asked { options: applier, source })
}

/// Applies the options; the first segment without `:` begins the source.
fn options<'r, 't>(rest: &'r str, tenant: &'t Tenant) -> Result<(Applier<'t>, &'r str), Problem> {
    let first = rest.split('/').next().unwrap_or(rest);
    if options::resize_kind_named(first).is_some() {
        let detail = format!(
            "`/{first}/…` is imgproxy's basic URL format, which is gone there too; write rs:{first}:WIDTH:HEIGHT"
        );
        return Err(refused(detail));
    }
    let mut applier = Applier::start(tenant)?;
    let mut source_part = rest;
    loop {
        let (segment, behind) = source_part.split_once('/').unwrap_or((source_part, ""));
        let Some(call) = Call::read(segment) else {
            return Ok((applier, source_part));
        };
        applier.apply(&call)?;
        source_part = behind;
    }
}

/// Applies the presets that the first segment names.
fn presets_only<'r, 't>(rest: &'r str, tenant: &'t Tenant) -> Result<(Applier<'t>, &'r str), Problem> {
    let mut applier = Applier::start(tenant)?;
    let (names, source_part) = rest.split_once('/').unwrap_or((rest, ""));
    names.split(':').try_for_each(|name| applier.preset(name))?;
    Ok((applier, source_part))
}

/// An extension wins over the option `format`, unless the original is wanted as it is.
fn with_extension(mut applier: Applier<'_>, extension: Option<&str>) -> Result<Options, Problem> {
    let raw = applier.options().raw;
    if let Some(extension) = extension.filter(|_| !raw) {
        applier.apply(&Call { name: "format", args: vec![extension] })?;
    }
    Ok(applier.finish())
}

#[cfg(test)]
mod tests;

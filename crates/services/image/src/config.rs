//! What can be set about the image service. Presets, keys and sources belong to the tenant and are not here.

use serde::{Deserialize, Serialize};
use tutti_imaging::spec::{Format, Limits};

/// The settings of `[image]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Quality where a URL asks for none, by format; 1 to 100.
    pub quality: Quality,
    /// What must not be exceeded; over a limit is answered 422 and names it.
    pub limits: LimitsConfig,
    /// Give WebP to clients whose `Accept` names it, where a URL asks for no format. (imgproxy does so only where
    /// `IMGPROXY_AUTO_WEBP` is set.)
    pub negotiate_webp: bool,
    /// How long a result is fresh, in seconds, where its original does not say. A week: purges and revalidation see to
    /// changes before that.
    pub fresh_s: u64,
    /// How long after that it may be served while it is made anew, in seconds (RFC 5861). A day.
    pub stale_while_revalidate_s: u64,
    /// How long after that it may be served when the origin or our capacity fails, in seconds (RFC 5861). A week.
    pub stale_if_error_s: u64,
    /// Read the last segment of a base64 source as a file name for people and search engines, and ignore it.
    pub base64_url_includes_filename: bool,
}

/// Quality by format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quality {
    /// For JPEG.
    pub jpeg: u8,
    /// For PNG: used only where an encoder reduces colours.
    pub png: u8,
    /// For WebP. 79 as imgproxy has it: about what JPEG gives at 80.
    pub webp: u8,
}

/// Limits of one job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Most pixels of a source frame: width times height.
    pub source_pixels: u64,
    /// Most bytes of a source.
    pub source_bytes: u64,
    /// Longest side of a result, in pixels.
    pub result_side: u32,
}

/// The longest time that can be configured, in seconds: ten years.
const MAX_SECONDS: u64 = 10 * 366 * 24 * 3600;
/// The longest side that any of our encoders writes: WebP's 14 bits end at 16,383, JPEG's 16 bits at 65,535.
const MAX_RESULT_SIDE: u32 = 65_535;

const DAY_S: u64 = 24 * 3600;

impl Default for Config {
    fn default() -> Self {
        Self {
            quality: Quality::default(),
            limits: LimitsConfig::default(),
            negotiate_webp: true,
            fresh_s: 7 * DAY_S,
            stale_while_revalidate_s: DAY_S,
            stale_if_error_s: 7 * DAY_S,
            base64_url_includes_filename: false,
        }
    }
}

impl Default for Quality {
    fn default() -> Self {
        Self { jpeg: 80, png: 80, webp: 79 }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let Limits { source_pixels, source_bytes, result_side } = Limits::default();
        Self { source_pixels, source_bytes, result_side }
    }
}

impl Config {
    /// Says what is wrong with it, naming key and value.
    pub fn validate(&self) -> Result<(), String> {
        for (key, value) in self.quality.by_name() {
            if !(1..=100).contains(&value) {
                return Err(format!("[image.quality] {key} = {value} is not between 1 and 100"));
            }
        }
        for (key, value) in [
            ("fresh_s", self.fresh_s),
            ("stale_while_revalidate_s", self.stale_while_revalidate_s),
            ("stale_if_error_s", self.stale_if_error_s),
        ] {
            if value > MAX_SECONDS {
                return Err(format!(
                    "[image] {key} = {value} is longer than ten years ({MAX_SECONDS} seconds)"
                ));
            }
        }
        self.limits.validate()
    }
}

impl Quality {
    fn by_name(self) -> [(&'static str, u8); 3] {
        [("jpeg", self.jpeg), ("png", self.png), ("webp", self.webp)]
    }

    /// The quality of `format`.
    pub fn of(self, format: Format) -> u8 {
        match format {
            Format::Jpeg => self.jpeg,
            Format::Png => self.png,
            Format::WebP => self.webp,
        }
    }
}

impl LimitsConfig {
    fn validate(self) -> Result<(), String> {
        if self.source_pixels == 0 || self.source_bytes == 0 {
            return Err("[image.limits] source_pixels and source_bytes must be 1 or more".into());
        }
        if !(1..=MAX_RESULT_SIDE).contains(&self.result_side) {
            let side = self.result_side;
            return Err(format!(
                "[image.limits] result_side = {side} is not between 1 and {MAX_RESULT_SIDE}"
            ));
        }
        Ok(())
    }
}

impl From<LimitsConfig> for Limits {
    fn from(limits: LimitsConfig) -> Self {
        let LimitsConfig { source_pixels, source_bytes, result_side } = limits;
        Self { source_pixels, source_bytes, result_side }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(document: &str) -> Result<(), String> {
        let config: Config = serde_json::from_str(document).map_err(|error| error.to_string())?;
        config.validate()
    }

    #[test]
    fn the_defaults_are_valid_and_documents_may_be_partial() {
        assert_eq!(check("{}"), Ok(()));
        assert_eq!(check(r#"{"quality": {"webp": 1}, "limits": {"result_side": 65535}}"#), Ok(()));
    }

    #[test]
    fn mistakes_are_named() {
        for (document, names) in [
            (r#"{"qualty": {}}"#, "qualty"),
            (r#"{"quality": {"jpeg": 0}}"#, "jpeg = 0"),
            (r#"{"quality": {"webp": 101}}"#, "webp = 101"),
            (r#"{"limits": {"result_side": 65536}}"#, "result_side = 65536"),
            (r#"{"limits": {"source_pixels": 0}}"#, "source_pixels"),
            (r#"{"fresh_s": 999999999999}"#, "fresh_s = 999999999999"),
        ] {
            let message = check(document).unwrap_err();
            assert!(message.contains(names), "{document}: {message}");
        }
    }
}

//! Reading configuration strictly: an unknown key is an error that names its place and the nearest known key.

use serde::de::DeserializeOwned;
use tutti_store::document::Invalid;

/// Reads `table` as `T`.
pub(crate) fn read<T: DeserializeOwned>(table: toml::Table) -> Result<T, Invalid> {
    serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let message = helpful(&error.inner().to_string(), &path);
        Invalid { path, message }
    })
}

/// serde's sentence on an unknown key lists all known ones; people want the nearest.
fn helpful(said: &str, path: &str) -> String {
    let said = said.lines().next().unwrap_or(said);
    let Some((unknown, known)) = unknown_field(said) else {
        return if path.is_empty() { said.to_owned() } else { format!("`{path}`: {said}") };
    };
    let place = path.rsplit_once('.').map_or(String::new(), |(table, _)| format!(" in [{table}]"));
    match tutti_store::nearest::nearest(unknown, known.iter().copied()) {
        Some(near) => format!("unknown option `{unknown}`{place}; did you mean `{near}`?"),
        None => format!("unknown option `{unknown}`{place}; known are {}", known.join(", ")),
    }
}

fn unknown_field(said: &str) -> Option<(&str, Vec<&str>)> {
    let rest = said.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    Some((unknown, rest.split('`').skip(1).step_by(2).collect()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        image: Inner,
    }
    #[derive(Deserialize, Debug, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        quality: u8,
        limits: u8,
    }

    fn check(text: &str, expected: &str) {
        let error = read::<Outer>(toml::from_str(text).unwrap()).unwrap_err();
        assert_eq!(error.message, expected);
    }

    #[test]
    fn errors_name_place_and_way_out() {
        check("[image]\nqualty = 3", "unknown option `qualty` in [image]; did you mean `quality`?");
        check("[imag]\nquality = 3", "unknown option `imag`; did you mean `image`?");
        check("[image]\nzzzzzz = 3", "unknown option `zzzzzz` in [image]; known are quality, limits");
        check("[image]\nquality = 'x'", "`image.quality`: invalid type: string \"x\", expected u8");
    }
}

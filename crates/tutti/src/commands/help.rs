//! `tutti help WORD`: the words of this system, and of those that people come from.

use anyhow::bail;

const GLOSSARY: &str = include_str!("../../../../docs/glossary.md");

/// Prints the rows of the glossary that speak of `word`.
pub(crate) fn run(word: &str) -> anyhow::Result<()> {
    if word.is_empty() {
        println!("tutti help WORD explains a word, also one that other systems use: `tutti help master`.");
        println!("tutti --help lists the commands.");
        return Ok(());
    }
    let found = rows(word);
    if found.is_empty() {
        bail!(
            "no such word: `{word}`. The whole list is in docs/glossary.md; `tutti --help` lists the commands"
        );
    }
    found.iter().for_each(|row| println!("{row}"));
    Ok(())
}

/// Rows of the glossary's tables that contain `word`, as text.
fn rows(word: &str) -> Vec<String> {
    let wanted = word.to_lowercase();
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    GLOSSARY
        .lines()
        .filter(|line| {
            line.starts_with('|') && !line.starts_with("|-") && line.to_lowercase().contains(&wanted)
        })
        .map(|line| cells(line).join(": ").replace("**", "").replace('`', ""))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn words_of_other_systems_are_found() {
        for word in ["master", "render cache", "distiller", "Slave"] {
            assert!(!rows(word).is_empty(), "{word}");
        }
        assert!(rows("no such word").is_empty());
    }
}

//! The page's text, from its template, its style and its script. Escapes everything that it is given.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tutti_base::html::escape;
use tutti_base::http::Field;

use crate::{Command, Picture, SIZE};

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The longer side in pixels of the pictures that are shown without scripts.
const PLAIN_SIZE: &str = "480";

/// Commands that are right wherever the page is served.
pub(crate) fn usual_commands() -> Vec<Command> {
    let command = |title: &str, line: &str| Command { title: title.into(), line: line.into() };
    vec![
        command("Who would make this picture, and why?", "tutti explain {url}"),
        command("Which nodes are there, and how busy are they?", "tutti status"),
        command("One line that adds a machine", "tutti token create"),
    ]
}

/// The fields that go with the page: it runs its own script and style, and talks to this server alone.
pub(crate) fn fields() -> Vec<Field> {
    let policy = format!(
        "default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; script-src '{}'; style-src '{}'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source_of(SCRIPT),
        source_of(STYLE)
    );
    vec![("Content-Security-Policy".into(), policy), ("Referrer-Policy".into(), "no-referrer".into())]
}

/// A hash source (CSP level 3, section 2.3.1).
fn source_of(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// The whole page.
pub(crate) fn render(pictures: &[Picture], commands: &[Command]) -> String {
    let cards: String = pictures.iter().map(card).collect();
    let first = pictures.first().map(|picture| plain(&picture.path)).unwrap_or_default();
    let lines: String = commands.iter().map(|command| line(command, &first)).collect();
    let parts = [("STYLE", STYLE), ("SCRIPT", SCRIPT), ("CARDS", &cards), ("COMMANDS", &lines)];
    let mut page =
        String::with_capacity(TEMPLATE.len() + STYLE.len() + SCRIPT.len() + cards.len() + lines.len());
    let mut rest = TEMPLATE;
    // What was put in is not looked at again.
    while let Some((before, behind)) = rest.split_once("[[") {
        let (name, after) = behind.split_once("]]").unwrap_or((behind, ""));
        page.push_str(before);
        page.push_str(parts.iter().find(|(part, _)| *part == name).map_or("", |(_, text)| text));
        rest = after;
    }
    page + rest
}

fn plain(path: &str) -> String {
    path.replace(SIZE, PLAIN_SIZE)
}

fn card(picture: &Picture) -> String {
    let (title, path) = (escape(&picture.title), escape(&picture.path));
    let plain = escape(&plain(&picture.path));
    format!(
        "<figure class=\"card\" data-path=\"{path}\">\n\
         <a href=\"{plain}\"><img src=\"{plain}\" alt=\"{title}\" width=\"480\" height=\"320\" decoding=\"async\"></a>\n\
         <figcaption><h3>{title}</h3>\n\
         <p class=\"facts\" hidden><span class=\"badge\"></span> <span class=\"took\"></span></p>\n\
         <p class=\"maker\" hidden></p>\n\
         <p class=\"why\" hidden></p></figcaption>\n\
         </figure>\n"
    )
}

fn line(command: &Command, first: &str) -> String {
    let text = escape(&command.line.replace("{url}", first));
    format!(
        "<li><p>{}</p><div class=\"line\"><code>{text}</code>\
         <button type=\"button\" class=\"copy\" hidden>Copy</button></div></li>\n",
        escape(&command.title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_not_taken_for_a_part() {
        let picture = Picture { title: "[[SCRIPT]]".into(), path: "/p".into() };
        let page = render(&[picture], &[]);
        assert!(page.contains("<h3>[[SCRIPT]]</h3>"));
        assert_eq!(page.matches(SCRIPT).count(), 1);
        assert!(page.ends_with("</html>\n"));
    }

    #[test]
    fn the_policy_names_exactly_the_script_and_the_style_of_the_page() {
        let page = render(&[], &usual_commands());
        let policy = &fields()[0].1;
        for (tag, end) in [("<script>", "</script>"), ("<style>", "</style>")] {
            let body = page.split_once(tag).unwrap().1.split_once(end).unwrap().0;
            assert!(policy.contains(&source_of(body)), "{tag} is not what the policy allows");
        }
        assert_eq!(page.matches("<script").count(), 1);
    }

    #[test]
    fn a_command_names_the_first_picture() {
        let picture = Picture { title: "a".into(), path: format!("/i/{SIZE}/a") };
        assert!(render(&[picture], &usual_commands()).contains("<code>tutti explain /i/480/a</code>"));
    }
}

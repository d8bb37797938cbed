//! The demo's page of pictures: one answer at hand, no job. Does no I/O and knows no other service.

mod page;

use std::time::Duration;

use bytes::Bytes;
use tutti_base::http::{Field, Method};
use tutti_base::{Kind, Problem};
use tutti_service::{Action, Description, Head, Mount, Plan, Response, Service, Tenant};

/// Most pictures on the page.
pub const PICTURES_MAX: usize = 60;

/// Stands for the longer side in pixels in a picture's path.
pub const SIZE: &str = "{size}";

/// One picture of the page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// What it shows; also its text for those who do not see it.
    pub title: String,
    /// Where it is on this server, as a path that begins with `/`. [`SIZE`] in it stands for the longer side in pixels.
    pub path: String,
}

/// A command that the page offers to paste into a shell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// What one sees when it runs.
    pub title: String,
    /// The line.
    pub line: String,
}

/// Answers `/` with a page of pictures that says under each where it came from, which node made it, why that one, and
/// in how many ms.
pub struct GalleryService {
    description: Description,
    page: Bytes,
    fields: Vec<Field>,
}

impl GalleryService {
    /// The page of `pictures`, the first [`PICTURES_MAX`] of them. Without any it is mounted nowhere, and the front says
    /// at `/` what it always says.
    pub fn new(pictures: Vec<Picture>) -> Self {
        Self::with_commands(pictures, &page::usual_commands())
    }

    /// As [`GalleryService::new`], with other commands to paste.
    pub fn with_commands(mut pictures: Vec<Picture>, commands: &[Command]) -> Self {
        pictures.truncate(PICTURES_MAX);
        let description = Description {
            name: "gallery",
            summary: "the demo's page of pictures at `/`",
            mounts: if pictures.is_empty() { Vec::new() } else { vec![Mount::at("/")] },
            classes: Vec::new(),
            capabilities: Vec::new(),
            deadline: Duration::from_secs(2),
            epoch: 1,
        };
        let page = Bytes::from(page::render(&pictures, commands));
        Self { description, page, fields: page::fields() }
    }
}

impl Service for GalleryService {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn plan(&self, head: &Head<'_>, _tenant: &Tenant) -> Result<Plan, Problem> {
        if head.path != "/" {
            return Err(Problem::new(
                Kind::NotFound,
                "nothing is served at this path; the pictures are at `/`",
            ));
        }
        if !matches!(head.method, Method::Get | Method::Head) {
            return Err(Problem::new(Kind::MethodNotAllowed, "the gallery answers GET and HEAD only"));
        }
        let mut plan = Plan::of(Action::Respond(Response {
            status: 200,
            content_type: "text/html; charset=utf-8".into(),
            body: self.page.clone(),
        }));
        plan.fields = self.fields.clone();
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gallery(count: usize) -> GalleryService {
        let picture = |at| Picture {
            title: format!("A \"<quiet>\" lake & sky, {at}"),
            path: format!("/image/unsafe/rs:fit:{SIZE}:{SIZE}/plain/local:///photo{at:02}.jpg@webp"),
        };
        GalleryService::new((1..=count).map(picture).collect())
    }

    fn plan(path: &str, method: Method) -> Result<Plan, Problem> {
        let head = Head { method, host: "localhost", path, query: None, fields: &() };
        gallery(3).plan(&head, &Tenant::main())
    }

    fn page(count: usize) -> String {
        String::from_utf8(gallery(count).page.to_vec()).unwrap()
    }

    #[test]
    fn the_page_stands_at_the_root_alone() {
        let plan = plan("/", Method::Head).unwrap();
        let Action::Respond(response) = plan.action else { panic!("no answer at hand") };
        assert_eq!((response.status, response.content_type.as_str()), (200, "text/html; charset=utf-8"));
        for path in ["/favicon.ico", "/image", "/index.html", "//"] {
            assert_eq!(self::plan(path, Method::Get).unwrap_err().kind, Kind::NotFound, "{path}");
        }
        assert_eq!(self::plan("/", Method::Post).unwrap_err().kind, Kind::MethodNotAllowed);
    }

    #[test]
    fn without_pictures_it_is_mounted_nowhere() {
        assert_eq!(gallery(0).describe().mounts, []);
        assert_eq!(gallery(1).describe().mounts, [Mount::at("/")]);
    }

    #[test]
    fn every_picture_is_shown_without_scripts_and_its_title_cannot_break_the_page() {
        let page = page(3);
        assert_eq!(page.matches("<img ").count(), 3);
        assert_eq!(page.matches("src=\"/image/unsafe/rs:fit:480:480/plain/").count(), 3);
        assert_eq!(page.matches("alt=\"A &quot;&lt;quiet&gt;&quot; lake &amp; sky, 2\"").count(), 1);
        assert!(!page.contains("<quiet>"));
    }

    #[test]
    fn the_page_asks_for_nothing_from_outside() {
        let page = page(2);
        assert!(!page.contains("//cdn") && !page.contains("src=\"http") && !page.contains("@import"));
        let policy =
            &page::fields().into_iter().find(|(name, _)| name == "Content-Security-Policy").unwrap().1;
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        assert!(!page.contains(" style=\"") && !page.contains(" onclick="), "the policy allows neither");
    }

    #[test]
    fn the_pictures_have_a_limit() {
        assert_eq!(page(PICTURES_MAX).matches("<img ").count(), PICTURES_MAX);
        assert_eq!(page(PICTURES_MAX + 1).matches("<img ").count(), PICTURES_MAX);
    }
}

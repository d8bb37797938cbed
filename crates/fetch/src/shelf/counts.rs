//! What changing folders counts.

use tutti_telemetry::{Counter, Family, Metrics};

use super::{LOOKED_MAX, PAGE_BYTES_MAX, PAGE_MAX, WORKS_AT_ONCE};

/// One label whose value is of a closed set of words.
type Label = [(&'static str, &'static str); 1];

/// All metrics of this part.
pub(super) struct Counts {
    done: Family<Label, Counter>,
    failed: Family<Label, Counter>,
}

impl Counts {
    /// Registers everything; once a process.
    pub(super) fn register(metrics: &Metrics) -> Self {
        let limits = [
            ("fetch_shelf_works", "Changes and lists of folders under way at once", WORKS_AT_ONCE),
            ("fetch_shelf_page", "Files of one page of a folder", PAGE_MAX),
            ("fetch_shelf_page_bytes", "Bytes of paths of one page of a folder", PAGE_BYTES_MAX),
            ("fetch_shelf_names", "Names looked at for one page of a folder", LOOKED_MAX),
        ];
        for (name, help, value) in limits {
            metrics.limit(name, help, value as u64);
        }
        let (done, failed) = (Family::default(), Family::default());
        Self {
            done: metrics.register("fetch_shelf", "Folders listed, files written and removed, by kind", done),
            failed: metrics.register(
                "fetch_shelf_errors",
                "Lists and changes of folders that failed, by kind",
                failed,
            ),
        }
    }

    pub(super) fn done(&self, kind: &'static str) {
        self.done.get_or_create(&[("kind", kind)]).inc();
    }
    pub(super) fn failed(&self, kind: &'static str) {
        self.failed.get_or_create(&[("kind", kind)]).inc();
    }
}

//! Gathering: several plans at once, put together in order; a part that is late or dead leaves a note in its place.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, join_all, select};
use tutti_base::{Body, Context, Deadline, Kind, Problem};
use tutti_service::Gather;

use crate::{Answer, CacheNote, Flow, Made, Planned, Timing, Whence};

/// A part is at most this long.
const PART_BYTES_MAX: u64 = 8 << 20;
/// A gather has at most this many parts.
pub const PARTS_MAX: usize = 64;

impl Flow {
    /// Answers `gather`: all parts at once, each under the gather's own deadline.
    pub(crate) async fn gather(
        self: &Arc<Self>,
        gather: &Gather,
        planned: &Planned,
        context: &Context,
    ) -> Answer {
        if gather.parts.len() > PARTS_MAX {
            let detail = format!(
                "{} parts were asked for; the limit is {PARTS_MAX} (gather_parts)",
                gather.parts.len()
            );
            let problem = Problem::new(Kind::Unprocessable, detail).about("gather_parts");
            return Answer::Problem(problem, CacheNote::Bypass, Timing::default());
        }
        let deadline = Deadline::after(self.outside.clock.now(), gather.within).min(context.deadline);
        let part =
            |part: &tutti_service::Part| self.part(planned, part.plan.clone(), deadline, context.clone());
        let parts = join_all(gather.parts.iter().map(part)).await;
        let came = parts.iter().flatten().count();
        if came < gather.at_least {
            let detail =
                format!("only {came} of {} parts answered; {} are needed", parts.len(), gather.at_least);
            return Answer::Problem(
                Problem::new(Kind::Unavailable, detail),
                CacheNote::Bypass,
                Timing::default(),
            );
        }
        let mut body = BytesMut::new();
        parts.iter().for_each(|part| body.extend_from_slice(part.as_ref().unwrap_or(&gather.missing)));
        let coverage = ("Tutti-Coverage".to_owned(), format!("{came}/{}", parts.len()));
        Answer::Made(Made {
            status: 200,
            content_type: gather.content_type.clone(),
            fields: planned.plan.fields.iter().cloned().chain([coverage]).collect(),
            body: Body::Whole(body.freeze()),
            storable: false,
            cache: CacheNote::Bypass,
            timing: Timing::default(),
            whence: Whence::default(),
        })
    }

    /// One part's bytes; none when it is late or failed.
    async fn part(
        self: &Arc<Self>,
        outer: &Planned,
        plan: tutti_service::Plan,
        deadline: Deadline,
        context: Context,
    ) -> Option<Bytes> {
        let name = self.registry().get(outer.service).describe().name;
        let planned = Arc::new(Planned::new(outer.service, name, outer.tenant.clone(), plan));
        let answer = self.answer(planned, Context { deadline, ..context });
        let body = match select(answer, self.outside.clock.sleep_until(deadline.0)).await {
            Either::Left((Answer::Kept(kept), _)) => kept.entry.body.clone().into(),
            Either::Left((Answer::Made(made), _)) => made.body,
            Either::Left((Answer::Problem(..), _)) | Either::Right(_) => return None,
        };
        self.outside.copies.read(body, PART_BYTES_MAX).await.ok()
    }
}

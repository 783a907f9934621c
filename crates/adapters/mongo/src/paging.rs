//! Keyset paging as a filter.

use bson::{Bson, Document, doc};
use parlance_application::ports::store::Start;
use uuid::Uuid;

use crate::documents::{date, id};

/// Narrows a filter to what comes after a page's start, in the order of the two fields.
pub(crate) fn narrow(start: &Start, filter: Document, at: &str, key: &str) -> Document {
    beyond(start, (start.at, start.id), ["$gt", "$gte"], filter, [at, key])
}

/// The same in a list whose newest come first.
pub(crate) fn narrow_back(start: &Start, filter: Document, at: &str, key: &str) -> Document {
    beyond(start, start.mirrored(), ["$lt", "$lte"], filter, [at, key])
}

fn beyond(
    start: &Start,
    (time, row): (i64, Uuid),
    [beyond, not_before]: [&str; 2],
    mut filter: Document,
    [at, key]: [&str; 2],
) -> Document {
    if start.at > i64::MIN {
        let time = date(time);
        let at_another = doc! { at: { beyond: time } };
        let at_the_same = doc! { at: time, key: { beyond: id(row) } };
        filter.insert(at, doc! { not_before: time });
        filter.insert("$and", Bson::Array(vec![doc! { "$or": [at_another, at_the_same] }.into()]));
    }
    filter
}

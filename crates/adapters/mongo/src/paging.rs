//! Keyset paging as a filter.

use bson::{Bson, Document, doc};
use parlance_application::ports::store::Start;

use crate::documents::{date, id};

/// Narrows a filter to what comes after a page's start, in the order of the two fields.
pub(crate) fn narrow(start: &Start, mut filter: Document, at: &str, key: &str) -> Document {
    if start.at > i64::MIN {
        let time = date(start.at);
        let later = doc! { at: { "$gt": time } };
        let same = doc! { at: time, key: { "$gt": id(start.id) } };
        filter.insert(at, doc! { "$gte": time });
        filter.insert("$and", Bson::Array(vec![doc! { "$or": [later, same] }.into()]));
    }
    filter
}

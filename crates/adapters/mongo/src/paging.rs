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

/// The same in a list whose newest come first.
pub(crate) fn narrow_back(start: &Start, mut filter: Document, at: &str, key: &str) -> Document {
    if start.at > i64::MIN {
        let (before, id_before) = start.mirrored();
        let time = date(before);
        let earlier = doc! { at: { "$lt": time } };
        let same = doc! { at: time, key: { "$lt": id(id_before) } };
        filter.insert(at, doc! { "$lte": time });
        filter.insert("$and", Bson::Array(vec![doc! { "$or": [earlier, same] }.into()]));
    }
    filter
}

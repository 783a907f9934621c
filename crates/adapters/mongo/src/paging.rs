//! Keyset paging: a list is ordered by a time and an id, and its cursor is the two in hex.

use bson::{Bson, Document, doc};
use parlance_application::{
    Error, Result,
    ports::store::{Page, PageQuery},
};
use uuid::Uuid;

use crate::documents::{date, id};

/// Where a page begins, and how long it may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    after: Option<(i64, Uuid)>,
    limit: usize,
}

impl Start {
    /// Reads the query. `BadRequest` for a cursor that [`Start::page`] has not written.
    pub(crate) fn of(query: &PageQuery) -> Result<Self> {
        let after = match query.after.as_deref() {
            None => None,
            Some(cursor) => Some(
                parse(cursor)
                    .ok_or_else(|| Error::BadRequest("the cursor is not one of ours".to_owned()))?,
            ),
        };
        Ok(Self { after, limit: query.limit.clamp(1, 200) })
    }

    /// How many documents to ask for: one more than the page holds, to know whether there is another page.
    pub(crate) fn rows(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(200) + 1
    }

    /// Narrows a filter to what comes after the cursor, in the order of the two fields.
    pub(crate) fn narrow(&self, mut filter: Document, at: &str, key: &str) -> Document {
        if let Some((time, last)) = self.after {
            let time = date(time);
            let later = doc! { at: { "$gt": time } };
            let same = doc! { at: time, key: { "$gt": id(last) } };
            filter.insert(at, doc! { "$gte": time });
            filter.insert("$and", Bson::Array(vec![doc! { "$or": [later, same] }.into()]));
        }
        filter
    }

    /// Makes the page out of items with their keys.
    pub(crate) fn page<T>(&self, mut rows: Vec<(i64, Uuid, T)>) -> Page<T> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows
            .last()
            .filter(|_| more)
            .map(|(at, id, _)| format!("{:016x}{:032x}", at.cast_unsigned(), id.as_u128()));
        Page { items: rows.into_iter().map(|(_, _, item)| item).collect(), next }
    }
}

fn parse(cursor: &str) -> Option<(i64, Uuid)> {
    if cursor.len() != 48 || !cursor.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let (at, id) = cursor.split_at(16);
    Some((
        u64::from_str_radix(at, 16).ok()?.cast_signed(),
        Uuid::from_u128(u128::from_str_radix(id, 16).ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_row() {
        let first = Start::of(&PageQuery { after: None, limit: 1 }).expect("valid");
        let page = first.page(vec![(-5, Uuid::from_u128(7), 'a'), (6, Uuid::from_u128(8), 'b')]);
        assert_eq!(page.items, ['a']);
        let second = Start::of(&PageQuery { after: page.next, limit: 1 }).expect("valid");
        assert_eq!(second.after, Some((-5, Uuid::from_u128(7))));
        assert_eq!(second.page(vec![(6, Uuid::from_u128(8), 'b')]).next, None);
    }

    #[test]
    fn other_cursors_are_refused() {
        for bad in ["", "x", "é", &"g".repeat(48), &"é".repeat(24)] {
            assert!(matches!(
                Start::of(&PageQuery { after: Some(bad.to_owned()), limit: 1 }),
                Err(Error::BadRequest(_))
            ));
        }
    }
}

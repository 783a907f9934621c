//! Keyset paging, the same in every store: a list is ordered by a time and an id, and its cursor is both in hex.

use uuid::Uuid;

use crate::{Error, Result};

/// The most items on a page.
pub const MAX_PAGE: usize = 200;

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// The cursor of this page: `next` of the page before. None for the first page.
    pub after: Option<String>,
    /// 1 to [`MAX_PAGE`]; others are clamped.
    pub limit: usize,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// The cursor of the next page; none on the last one.
    pub next: Option<String>,
}

/// Where a page begins, and how long it may be.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Only rows after this time, in milliseconds ([`i64::MIN`] for the first page) …
    pub at: i64,
    /// … or at this time and after this id.
    pub id: Uuid,
    limit: usize,
}

impl Start {
    /// Reads the query. `BadRequest` for a malformed cursor.
    pub fn of(query: &PageQuery) -> Result<Self> {
        let (at, id) = match query.after.as_deref() {
            None => (i64::MIN, Uuid::nil()),
            Some(cursor) => parse(cursor)
                .ok_or_else(|| Error::BadRequest("the cursor is not one of ours".to_owned()))?,
        };
        Ok(Self { at, id, limit: query.limit.clamp(1, MAX_PAGE) })
    }

    /// The same start in a list whose newest rows come first: only rows before this time, or at it and before this id.
    pub fn mirrored(&self) -> (i64, Uuid) {
        mirrored(self.at, self.id)
    }

    /// How many rows to ask for: one more than the page holds, to know whether there is another page.
    pub fn rows(&self) -> i64 {
        one_more(self.limit)
    }

    /// [`Start::page`] for rows whose newest come first.
    pub fn page_back<T>(&self, rows: Vec<(i64, Uuid, T)>) -> Page<T> {
        let mirror = |(at, id, item)| {
            let (at, id) = mirrored(at, id);
            (at, id, item)
        };
        self.page(rows.into_iter().map(mirror).collect())
    }

    /// Makes the page from rows with their keys.
    pub fn page<T>(&self, mut rows: Vec<(i64, Uuid, T)>) -> Page<T> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows
            .last()
            .filter(|_| more)
            .map(|(at, id, _)| format!("{:016x}{:032x}", at.cast_unsigned(), id.as_u128()));
        Page { items: rows.into_iter().map(|(_, _, item)| item).collect(), next }
    }
}

/// How many rows to ask for, to fill a page and learn whether there is another.
pub fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

/// The key of a row in a list whose newest rows come first: the order is reversed. Its own inverse.
fn mirrored(at: i64, id: Uuid) -> (i64, Uuid) {
    (!at, Uuid::from_u128(!id.as_u128()))
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
        assert_eq!((second.at, second.id), (-5, Uuid::from_u128(7)));
        assert_eq!(second.page(vec![(6, Uuid::from_u128(8), 'b')]).next, None);
    }

    #[test]
    fn mirrored_keys_go_the_other_way() {
        let id = Uuid::from_u128;
        let keys =
            [(i64::MIN, id(0)), (-1, id(7)), (0, id(6)), (0, id(8)), (i64::MAX, id(u128::MAX))];
        assert!(keys.is_sorted());
        let mirror = keys.map(|(at, id)| mirrored(at, id));
        assert!(mirror.iter().rev().is_sorted());
        assert_eq!(mirror.map(|(at, id)| mirrored(at, id)), keys);
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

//! The contract's integers: 0 to 2⁵³ − 1, which every client can hold exactly.

use std::fmt;

use parlance_application::Error;
use serde::{
    Deserialize, Deserializer,
    de::{self, Unexpected, Visitor},
};

/// An integer in a request, however large. One out of bounds is not malformed: it is refused as an invalid field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number(u64);

/// Reads one.
struct Integer;

impl Number {
    /// The largest that every client can hold exactly: JavaScript's numbers are floats.
    const MAX: u64 = (1 << 53) - 1;
    /// Stands for every number that is out of bounds, negative ones included.
    const OUT: Self = Self(u64::MAX);

    /// The number as what it counts, if it is within the contract's bounds.
    pub(crate) fn within<T: From<u64>>(self, field: &str) -> Result<T, Error> {
        if self.0 <= Self::MAX {
            return Ok(self.0.into());
        }
        let bounds = format!("must be from 0 to {}", Self::MAX);
        Err(Error::refused(field, "out_of_bounds", bounds))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(Integer)
    }
}

/// The same from a query, where every value is text.
pub(crate) fn in_query<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
    Ok(digits(deserializer)?.parse().map_or(Number::OUT, Number))
}

/// The same, if it may be missing.
pub(crate) fn maybe_in_query<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Number>, D::Error> {
    in_query(deserializer).map(Some)
}

/// An optional count in a query; one too large for `i64` becomes the nearest `i64`, so that it is refused as out of
/// bounds.
pub(crate) fn count_in_query<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<i64>, D::Error> {
    let text = digits(deserializer)?;
    let nearest = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    Ok(Some(text.parse().unwrap_or(nearest)))
}

/// A whole number in digits, with a sign if negative.
fn digits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.strip_prefix('-').unwrap_or(&text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(de::Error::invalid_value(Unexpected::Str(&text), &Integer));
    }
    Ok(text)
}

impl Visitor<'_> for Integer {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
        Ok(Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
        Ok(u64::try_from(number).map_or(Number::OUT, Number))
    }

    /// `serde_json` passes integers beyond 64 bits as floats.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Number, E> {
        const WHOLE: f64 = 9_007_199_254_740_992.0;
        if number.abs() >= WHOLE {
            return Ok(Number::OUT);
        }
        Err(E::invalid_type(Unexpected::Float(number), &self))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::web::Query;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Deserialize)]
    struct Page {
        #[serde(deserialize_with = "in_query")]
        from_rev: Number,
    }

    #[test]
    fn only_what_is_no_integer_is_of_a_wrong_type() {
        for (number, taken) in [
            ("0", Some(0)),
            ("9007199254740991", Some(9_007_199_254_740_991)),
            ("9007199254740992", None),
            ("9223372036854775808", None),
            ("18446744073709551615", None),
            ("18446744073709551616", None),
            ("-1", None),
            ("-9223372036854775809", None),
        ] {
            let read: Number = serde_json::from_str(number).expect(number);
            assert_eq!(read.within::<u64>("seq").ok(), taken, "{number}");
        }
        for other in [json!(1.5), json!(1.0), json!("1"), json!(true), json!([1]), Value::Null] {
            assert!(serde_json::from_value::<Number>(other.clone()).is_err(), "{other}");
        }
    }

    #[test]
    fn a_query_is_read_alike() {
        let read = |query: &str| Query::<Page>::from_query(query).ok().map(|page| page.from_rev);
        assert_eq!(read("from_rev=7").and_then(|rev| rev.within::<u64>("from_rev").ok()), Some(7));
        for out in [
            "-1",
            "9007199254740992",
            "9223372036854775808",
            "18446744073709551616",
            "-9223372036854775809",
        ] {
            let refused = read(&format!("from_rev={out}")).expect(out).within::<u64>("from_rev");
            let Err(Error::Validation(fields)) = refused else { panic!("{out} is taken") };
            assert_eq!((&*fields[0].field, fields[0].code), ("from_rev", "out_of_bounds"));
        }
        for other in ["1.5", "1e3", "x", "-", ""] {
            assert!(read(&format!("from_rev={other}")).is_none(), "{other}");
        }
    }
}

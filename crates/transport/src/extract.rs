//! What handlers take: a strict JSON body, a strict query, a path, the caller. Each refuses with one of the contract's
//! errors.

use std::{
    future::{Future, Ready, ready},
    time::Duration,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::header,
    web::{Data, Query},
};
use futures::{StreamExt, future::LocalBoxFuture};
use parlance_application::{
    App, Caller, Error, FieldError, Unauthenticated, ports::store::PageQuery,
};
use parlance_domain::Invalid;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use tokio::time::timeout;

use crate::{error::ApiError, number::count_in_query};

/// The largest body, in bytes.
pub(crate) const BODY_LIMIT: usize = 64 * 1024;
/// How long a body may take to arrive: the largest just makes it at 18 kbit/s; a slower client would only tie up a
/// connection.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// Items of a page if no limit is given.
const PAGE: usize = 50;
/// How many characters of a parser's message clients are told.
const TOLD: usize = 200;

/// A JSON body of known fields. Their bounds are the domain's: handlers parse them into its types.
pub(crate) struct Body<T>(pub(crate) T);

/// The fields that an HTML form sends.
pub(crate) struct Form<T>(pub(crate) T);

/// A query of known parameters, within the bounds that its type states.
pub(crate) struct Params<T>(pub(crate) T);

/// The parameters of a path.
pub(crate) struct Path<T>(pub(crate) T);

/// The authenticated caller.
pub(crate) struct Authenticated(pub(crate) Caller);

/// Which page of a list.
#[derive(Debug, Deserialize, garde::Validate, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// The `next_cursor` of the previous page.
    #[garde(skip)]
    cursor: Option<String>,
    /// Maximum number of items; 50 by default.
    #[garde(range(min = 1, max = 200))]
    #[param(minimum = 1, maximum = 200)]
    #[serde(default, deserialize_with = "count_in_query")]
    limit: Option<i64>,
}

/// A field that may be omitted. Null is refused: it could mean to clear the field, or to keep it.
pub(crate) fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// The items of a page; `limit` is within its bounds.
pub(crate) fn page_size(limit: Option<i64>) -> usize {
    count_or(limit, PAGE)
}

/// The count, or the default if there is none.
pub(crate) fn count_or(count: Option<i64>, default: usize) -> usize {
    count.and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
}

impl From<PageParams> for PageQuery {
    fn from(params: PageParams) -> Self {
        Self { after: params.cursor, limit: page_size(params.limit) }
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = body(request, payload, "application/json");
        Box::pin(async move { Ok(Self(parse(&body.await?)?)) })
    }
}

impl<T: DeserializeOwned> FromRequest for Form<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = body(request, payload, "application/x-www-form-urlencoded");
        Box::pin(async move { Ok(Self(parse_pairs(&String::from_utf8_lossy(&body.await?))?)) })
    }
}

impl<T: DeserializeOwned + garde::Validate<Context = ()>> FromRequest for Params<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let parsed = parse_pairs(request.query_string()).and_then(valid);
        ready(parsed.map(Self).map_err(ApiError::from))
    }
}

impl<T: DeserializeOwned> FromRequest for Path<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let path = actix_web::dev::Path::clone(request.match_info());
        // The router would substitute replacement characters for what is not UTF-8.
        let readable = percent_decode_str(request.uri().path()).decode_utf8().is_ok();
        let parameters = path.load().ok().filter(|_| readable);
        let malformed = || Error::BadRequest("the path is malformed".into()).into();
        ready(parameters.map(Self).ok_or_else(malformed))
    }
}

impl FromRequest for Authenticated {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    /// Takes the caller that the middleware `authenticate` found before anything else was checked.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        ready(caller.map(Self).ok_or_else(|| Error::from(Unauthenticated::Missing).into()))
    }
}

/// Reads and verifies a bearer token; none if the request has no such header.
pub(crate) fn bearer(
    request: &HttpRequest,
) -> Option<impl Future<Output = Result<Caller, Error>> + use<>> {
    let header = request.headers().get(header::AUTHORIZATION)?.clone();
    let app = request.app_data::<Data<App>>()?.clone();
    Some(async move {
        let token = header
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        app.accounts.authenticate(token.ok_or(Unauthenticated::BadToken)?).await
    })
}

/// Reads the whole body, which must be of this media type, not too large and not too slow to arrive.
fn body(
    request: &HttpRequest,
    payload: &mut Payload,
    media_type: &'static str,
) -> impl Future<Output = Result<Vec<u8>, ApiError>> + use<> {
    let of_type = request.content_type().eq_ignore_ascii_case(media_type);
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    let encoded = encoding.is_some_and(|it| !it.as_bytes().eq_ignore_ascii_case(b"identity"));
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let payload = payload.take();
    async move {
        if !of_type {
            return Err(ApiError::UnsupportedMediaType { expected: media_type });
        }
        if encoded {
            return Err(ApiError::UnsupportedMediaType { expected: "without a Content-Encoding" });
        }
        if declared.is_some_and(|length| length > BODY_LIMIT) {
            return Err(ApiError::PayloadTooLarge { limit: BODY_LIMIT });
        }
        collect(payload, declared.unwrap_or(0), BODY_WITHIN).await
    }
}

async fn collect(
    mut payload: Payload,
    expected: usize,
    within: Duration,
) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::with_capacity(expected);
    let whole = async {
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Error::BadRequest("the body ended early".into()))?;
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(ApiError::PayloadTooLarge { limit: BODY_LIMIT });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    };
    let late = |_| Err(Error::BadRequest("the body did not come in time".into()).into());
    timeout(within, whole).await.unwrap_or_else(late).map(|()| body)
}

/// Names and values of a query or a form.
fn parse_pairs<T: DeserializeOwned>(pairs: &str) -> Result<T, Error> {
    Query::from_query(pairs)
        .map(Query::into_inner)
        .map_err(|error| Error::BadRequest(short(&error)))
}

/// Strict JSON, for bodies and for the socket's frames.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    // serde's derived code would also accept an array of the fields' values.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::BadRequest("malformed request: a JSON object is expected".into()));
    }
    serde_json::from_slice(json)
        .map_err(|error| Error::BadRequest(format!("malformed request: {}", short(&error))))
}

/// What is wrong, shortened: parsers quote what the client has sent.
fn short(error: &impl ToString) -> String {
    let mut told = error.to_string();
    if let Some((end, _)) = told.char_indices().nth(TOLD) {
        told.truncate(end);
        told.push('…');
    }
    told
}

/// Checks the bounds that a query's type states.
fn valid<T: garde::Validate<Context = ()>>(query: T) -> Result<T, Error> {
    let Err(report) = query.validate() else { return Ok(query) };
    let refused = |(path, error): &(garde::Path, garde::Error)| FieldError {
        field: path.to_string(),
        code: "out_of_bounds",
        message: error.to_string(),
    };
    Err(Error::Validation(report.iter().map(refused).collect()))
}

/// Collects what the domain refuses, so that a request with two bad fields is told about both.
#[derive(Default)]
pub(crate) struct Fields(Vec<FieldError>);

impl Fields {
    /// Notes a refusal under the field's name.
    pub(crate) fn take<T>(&mut self, field: &str, parsed: Result<T, Invalid>) -> Option<T> {
        parsed.map_err(|invalid| self.0.push(FieldError::new(field, invalid))).ok()
    }

    /// The refusals, of which there must be at least one.
    pub(crate) fn finish(self) -> Error {
        Error::Validation(self.0)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream::{iter, pending};
    use parlance_testkit::PATIENCE;

    use super::*;

    #[test]
    fn a_refusal_does_not_repeat_all_that_was_sent() {
        let named = format!("{{\"{}\":1}}", "ä".repeat(60_000));
        let Err(Error::BadRequest(why)) = parse::<Empty>(named.as_bytes()) else {
            unreachable!("it has an unknown field")
        };
        assert!(why.contains("unknown field `ää") && why.chars().count() < 300, "{why}");
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}

    #[actix_web::test]
    async fn a_body_that_trickles_is_not_waited_for() {
        let begun = iter([Ok("{".into())]).chain(pending());
        let payload = Payload::Stream { payload: begun.boxed_local() };
        let late = timeout(PATIENCE, collect(payload, 0, Duration::from_millis(20))).await;
        let late = late.expect("no longer than that");
        assert!(
            matches!(&late, Err(ApiError::Application(Error::BadRequest(why))) if why == "the body did not come in time"),
            "{late:?}"
        );
    }
}

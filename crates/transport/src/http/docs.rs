//! Interactive API documentation at `/docs/`, rendered from the document that `/openapi.json` serves.

use std::sync::{Arc, LazyLock};

use actix_web::{
    HttpResponse,
    http::header::{self, ContentEncoding},
    web::{Bytes, Path, Redirect},
};
use parlance_application::Error;
use utoipa_swagger_ui::{Config, serve};

use crate::error::ApiError;

static CONFIG: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/openapi.json")));

/// Serves one file of the documentation.
pub(crate) async fn file(path: Path<String>) -> Result<HttpResponse, ApiError> {
    let found = serve(&path, CONFIG.clone()).map_err(Error::internal)?;
    let file = found.ok_or(Error::NotFound("resource"))?;
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, file.content_type));
    if file.gzpipped {
        response.insert_header(ContentEncoding::Gzip);
    }
    Ok(response.body(Bytes::from(file.bytes.into_owned())))
}

/// Redirects `/docs` to `/docs/`: the page's own links are relative.
pub(crate) async fn front() -> Redirect {
    Redirect::to("/docs/")
}

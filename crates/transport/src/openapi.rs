//! The OpenAPI document, built from the handlers' annotations.

use std::sync::LazyLock;

use actix_web::http::StatusCode;
use bytes::Bytes;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, Ref, RefOr, ResponseBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    error::{Problem, Refused},
    http::messages::View,
    http::{accounts, channels, messages, system, workspaces},
    ws,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Parlance",
        description = "Team messaging: REST half of the wire contract. The WebSocket half, at `/api/v1/ws`, is \
                       described by `/asyncapi.json`."
    ),
    modifiers(&Bearer, &Problems, &Names),
    security(("bearer" = [])),
    components(schemas(Problem, Refused, View)),
    paths(
        accounts::signup, accounts::signin, accounts::refresh, accounts::signout, accounts::sessions,
        accounts::revoke_session, accounts::me, accounts::update_me, accounts::change_password,
        accounts::user, accounts::users,
        workspaces::create, workspaces::list, workspaces::get, workspaces::update, workspaces::delete,
        workspaces::join, workspaces::rotate_join_code, workspaces::leave, workspaces::members,
        workspaces::add_member, workspaces::set_role, workspaces::remove_member,
        channels::create, channels::list, channels::get, channels::update, channels::delete,
        channels::join, channels::leave, channels::members, channels::add_member,
        channels::remove_member, channels::open_dm, channels::dms, channels::conversations,
        channels::conversation, channels::mark_read,
        messages::send, messages::history, messages::sync, messages::get, messages::edit,
        messages::delete, messages::react, messages::unreact,
        ws::upgrade,
        system::livez, system::readyz, system::metrics, system::openapi, system::asyncapi,
    )
)]
struct Document;

/// The document as it is served.
pub(crate) static SERVED: LazyLock<Bytes> = LazyLock::new(|| json().into());

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// Gives every operation that can fail the `default` response: a problem.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let problem = ResponseBuilder::new()
            .description("refused or failed")
            .content("application/problem+json", content)
            .build();
        let infallible = ["/livez", "/metrics", "/openapi.json", "/asyncapi.json"];
        for (path, operation) in operations(document) {
            if !infallible.contains(&path) {
                let responses = &mut operation.responses.responses;
                responses.insert("default".to_owned(), problem.clone().into());
            }
        }
    }
}

/// Adds what the specification requires and the annotations omit: unique operation ids and response descriptions.
struct Names;

impl Modify for Names {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for (_, operation) in operations(document) {
            let area = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
            let handler = operation.operation_id.take().unwrap_or_default();
            operation.operation_id = Some(format!("{area}_{handler}"));
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    let status = StatusCode::from_bytes(status.as_bytes()).ok();
                    let words = status.and_then(|status| status.canonical_reason());
                    words.unwrap_or_default().to_lowercase().clone_into(&mut response.description);
                }
            }
        }
    }
}

/// Every operation, with its path.
fn operations(
    document: &mut utoipa::openapi::OpenApi,
) -> impl Iterator<Item = (&str, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete]
            .into_iter()
            .flatten()
            .map(|operation| (path.as_str(), operation))
    })
}

/// The document as pretty JSON, ending in a newline: what is served and what is checked in.
pub fn json() -> String {
    let mut json = Document::openapi().to_pretty_json().unwrap_or_default();
    json.push('\n');
    json
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::http::routes::ROUTES;

    #[test]
    fn every_route_has_its_entry_and_every_entry_its_route() {
        let document: serde_json::Value = serde_json::from_str(&super::json()).expect("JSON");
        assert_eq!(document["openapi"], "3.1.0");
        let entries: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .expect("paths")
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().expect("methods").keys().map(|m| (m.clone(), path.clone()))
            })
            .collect();
        let routes: BTreeSet<(String, String)> =
            ROUTES.iter().map(|(method, path)| ((*method).into(), (*path).into())).collect();
        assert_eq!(entries, routes);
    }

    /// Otherwise it would be invalid, and client generators would refuse it.
    #[test]
    fn operations_have_names_of_their_own_and_answers_have_words() {
        let document: serde_json::Value = serde_json::from_str(&super::json()).expect("JSON");
        let mut names = BTreeSet::new();
        let paths = document["paths"].as_object().expect("paths").values();
        for operation in paths.flat_map(|methods| methods.as_object().expect("methods").values()) {
            let name = operation["operationId"].as_str().expect("a name");
            assert!(names.insert(name), "{name} is taken");
            for (status, response) in operation["responses"].as_object().expect("responses") {
                let words = response["description"].as_str().unwrap_or_default();
                assert!(!words.is_empty(), "{name}: {status}");
            }
        }
    }

    #[test]
    fn the_checked_in_document_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/openapi.json");
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == super::json(),
            "run `make spec`: spec/openapi.json is not what the code says"
        );
    }
}

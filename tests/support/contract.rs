//! Checks what the server says against its two documents, and more strictly than a client should: nothing may be there
//! that they do not name.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use jsonschema::Validator;
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

static OPENAPI: LazyLock<Document> =
    LazyLock::new(|| Document::new(include_str!("../../crates/transport/spec/openapi.json")));
static ASYNCAPI: LazyLock<Document> =
    LazyLock::new(|| Document::new(include_str!("../../crates/transport/spec/asyncapi.json")));

/// A document, and a validator for each place in it that was asked about.
struct Document {
    json: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// An unsolicited frame of the server's, or the reply to a command unknown here.
pub(super) fn heard(frame: &Value) {
    let kind = frame["type"].as_str().expect("a frame has a type");
    // What a reply contains is up to its command.
    if kind != "ok" {
        ASYNCAPI.holds(&pointer(kind), frame);
    }
}

/// A command that was accepted, and its reply.
pub(super) fn accepted(command: &Value, reply: &Value) {
    let kind = command["type"].as_str().expect("a command has a type");
    ASYNCAPI.holds(&pointer(kind), command);
    ASYNCAPI.holds(&pointer(&format!("{kind}.ok")), reply);
}

/// The answer to a call; a body that is empty is null.
pub(super) fn answered(method: &Method, path: &str, status: StatusCode, body: &Value) {
    if !status.is_success() {
        return OPENAPI.holds("/components/schemas/Problem", body);
    }
    let path = path.split('?').next().unwrap_or_default();
    let response = operation(path, method)
        .and_then(|operation| operation["responses"].get(status.as_str()))
        .unwrap_or_else(|| panic!("{method} {path}: the document does not name {status}: {body}"));
    let schema = &response["content"]["application/json"]["schema"]["$ref"];
    match schema.as_str() {
        Some(schema) => OPENAPI.holds(schema.trim_start_matches('#'), body),
        None => assert!(body.is_null(), "{method} {path}: {body}"),
    }
}

/// What the document says of a call: of the paths that match, the one with the fewest parameters.
fn operation(path: &str, method: &Method) -> Option<&'static Value> {
    let path = format!("/api/v1{path}");
    let fits = |template: &str| {
        let (asked, named) = (path.split('/'), template.split('/'));
        asked.clone().count() == named.clone().count()
            && asked.zip(named).all(|(asked, named)| asked == named || named.starts_with('{'))
    };
    let paths = OPENAPI.json["paths"].as_object().expect("paths").iter();
    let fitting = paths.filter(|(template, _)| fits(template));
    let (_, methods) = fitting.min_by_key(|(template, _)| template.matches('{').count())?;
    methods.get(method.as_str().to_lowercase())
}

fn pointer(message: &str) -> String {
    format!("/components/messages/{message}/payload")
}

impl Document {
    fn new(json: &str) -> Self {
        let mut json: Value = serde_json::from_str(json).expect("JSON");
        let schemas = json["components"]["schemas"].clone();
        close(&mut json, &schemas);
        Self { json, validators: Mutex::default() }
    }

    fn holds(&self, pointer: &str, value: &Value) {
        let validator = {
            let mut validators = self.validators.lock().expect("not poisoned");
            let validator = validators.entry(pointer.to_owned());
            validator.or_insert_with(|| Arc::new(self.validator(pointer))).clone()
        };
        let wrong: Vec<String> =
            validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{value} is not what {pointer} describes: {wrong:#?}");
    }

    fn validator(&self, pointer: &str) -> Validator {
        assert!(self.json.pointer(pointer).is_some(), "the document has no {pointer}");
        let reference = format!("#{pointer}");
        let schema = json!({ "$ref": reference, "components": self.json["components"] });
        jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema")
    }
}

/// Makes every object accept only the fields that it names. One combined from several (`allOf`) is merged first.
fn close(schema: &mut Value, schemas: &Value) {
    if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
        *schema = merged(parts, schemas);
    }
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| close(field, schemas));
            if fields.get("properties").is_some_and(Value::is_object) && fields.contains_key("type")
            {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| close(item, schemas)),
        _ => {}
    }
}

fn merged(parts: &[Value], schemas: &Value) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for part in parts {
        let name = part["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        let part = name.map_or(part, |name| &schemas[name]);
        properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
        required.extend(part["required"].as_array().cloned().unwrap_or_default());
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

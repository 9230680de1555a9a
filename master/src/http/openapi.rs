//! `/v1/openapi.json`: what [`super::router`] serves, described from one table.
//!
//! The shapes of bodies are named, and stand in `tepui_proto::api`; that crate knows nothing of `OpenAPI`, so their
//! fields are not repeated here.

mod table;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use std::future::{Ready, ready};
use std::sync::LazyLock;
use table::{ERRORS, Method, ROUTES, Route};
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, Paths,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, Required,
    ResponseBuilder,
};

const JSON: &str = "application/json";
const TOKEN: &str = "token";
const ERROR: &str = "ApiError";

static DOCUMENT: LazyLock<String> = LazyLock::new(|| build().to_json().unwrap_or_default());

pub(super) fn document() -> Ready<Response> {
    ready(([(CONTENT_TYPE, JSON)], DOCUMENT.as_str()).into_response())
}

fn build() -> OpenApi {
    let mut paths = Paths::new();
    for route in ROUTES {
        let methods = match route.method {
            Method::Get => vec![HttpMethod::Get],
            Method::Put => vec![HttpMethod::Put],
            Method::Post => vec![HttpMethod::Post],
            Method::Patch => vec![HttpMethod::Patch],
            Method::Delete => vec![HttpMethod::Delete],
            Method::Any => vec![
                HttpMethod::Get,
                HttpMethod::Put,
                HttpMethod::Post,
                HttpMethod::Delete,
                HttpMethod::Patch,
            ],
        };
        paths.add_path_operation(route.path, methods, operation(route));
    }
    let info = InfoBuilder::new()
        .title("Tepui")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("A cluster manager whose schedulers and tasks are WebAssembly."))
        .build();
    let mut components = ComponentsBuilder::new()
        .security_scheme(TOKEN, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
        .schema(ERROR, error());
    for name in
        ROUTES.iter().flat_map(|route| [route.body, route.answer]).filter(|name| is_shape(name))
    {
        let name = schema_name(name);
        let text = format!("See `{name}` in the crate `tepui-proto`, module `api`.");
        let object = ObjectBuilder::new().schema_type(Type::Object).description(Some(text));
        components = components.schema(name, object);
    }
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new::<&str, [&str; 0], &str>(TOKEN, [])]))
        .build()
}

fn error() -> ObjectBuilder {
    let text = |what: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(what));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("code", text("Stable; has a paragraph in docs/OPERATING.md."))
        .property("message", text("For people."))
        .property("hint", text("What could be done."))
        .required("code")
        .required("message")
}

fn operation(route: &Route) -> Operation {
    let mut operation = OperationBuilder::new().summary(Some(route.summary)).tag(route.tag);
    for name in path_parameters(route.path) {
        operation = operation.parameter(parameter(name, "", ParameterIn::Path));
    }
    for (name, what) in route.query {
        operation = operation.parameter(parameter(name, what, ParameterIn::Query));
    }
    if !route.body.is_empty() {
        let (kind, content) = content(route.body);
        let body = RequestBodyBuilder::new().content(kind, content).required(Some(Required::True));
        operation = operation.request_body(Some(body.build()));
    }
    for (status, what) in route.good {
        let mut response = ResponseBuilder::new().description(*what);
        if !route.answer.is_empty() {
            let (kind, content) = content(route.answer);
            response = response.content(kind, content);
        }
        operation = operation.response(*status, response);
    }
    for (status, codes) in ERRORS.iter().chain(route.bad) {
        let content = Content::new(Some(Ref::from_schema_name(ERROR)));
        let response = ResponseBuilder::new().description(*codes).content(JSON, content);
        operation = operation.response(*status, response);
    }
    operation.build()
}

fn parameter(name: &str, what: &str, place: ParameterIn) -> Parameter {
    let is_required = if place == ParameterIn::Path { Required::True } else { Required::False };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(is_required)
        .description((!what.is_empty()).then_some(what))
        .schema(Some(Object::with_type(Type::String)))
        .build()
}

/// `bytes`, `text` and `lines` are themselves; everything else is a shape in JSON.
fn content(name: &str) -> (&'static str, Content) {
    match name {
        "bytes" => {
            ("application/octet-stream", Content::new(Some(Object::with_type(Type::String))))
        }
        "text" => ("text/plain", Content::new(Some(Object::with_type(Type::String)))),
        "lines" => ("application/x-ndjson", Content::new(Some(Ref::from_schema_name("LogLine")))),
        name => (JSON, Content::new(Some(Ref::from_schema_name(schema_name(name))))),
    }
}

fn is_shape(name: &str) -> bool {
    !matches!(name, "" | "bytes" | "text")
}

/// The name of a shape where no `<` may stand.
fn schema_name(name: &str) -> String {
    if name == "lines" { "LogLine".to_owned() } else { name.replace('<', "Of").replace('>', "") }
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_in_the_document_with_its_errors() {
        let document: serde_json::Value = serde_json::from_str(&DOCUMENT).unwrap();
        for route in ROUTES {
            let item = &document["paths"][route.path];
            let method = match route.method {
                Method::Get | Method::Any => "get",
                Method::Put => "put",
                Method::Post => "post",
                Method::Patch => "patch",
                Method::Delete => "delete",
            };
            let responses = &item[method]["responses"];
            assert!(responses["401"].is_object(), "{} {}", method, route.path);
            for (status, _) in route.good.iter().chain(route.bad) {
                assert!(responses[status].is_object(), "{} {} {status}", method, route.path);
            }
        }
    }

    #[test]
    fn no_route_is_there_twice_and_every_reference_leads_somewhere() {
        let mut seen = BTreeSet::new();
        assert!(
            ROUTES.iter().all(|route| seen.insert((route.path, format!("{:?}", route.method))))
        );
        let document: serde_json::Value = serde_json::from_str(&DOCUMENT).unwrap();
        let text = DOCUMENT.as_str();
        for part in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}

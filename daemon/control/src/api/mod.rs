//! `/api/v1`: everything that the pages do, for programs.
//!
//! One table says for each operation what answers it, who may use it and what goes in and out; routes and the OpenAPI document are both made from it.
//! Failures are `application/problem+json` with the field and the remedy.

mod account;
mod audit;
mod box_state;
mod candidate;
mod mappings;
mod observer;
mod openapi;
mod proxy;
mod resources;
mod revisions;
mod schemas;
mod update;
mod users;

use crate::http::{Access, Handler, Method, Route};

/// One thing that can be asked of the API.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub method: Method,
    /// Below `/api/v1`.
    pub path: &'static str,
    pub access: Access,
    pub handler: Handler,
    /// One sentence.
    pub summary: &'static str,
    pub query: &'static [Parameter],
    /// The name of the body's schema.
    pub body: Option<&'static str>,
    pub answer: Answer,
}

/// A part of the query string; none is required.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    pub name: &'static str,
    /// `string` or `integer`.
    pub kind: &'static str,
    pub about: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// Status and the name of a schema.
    Json(u16, &'static str),
    /// A file with this content type.
    File(&'static str),
    /// 204.
    Nothing,
}

pub fn operations() -> impl Iterator<Item = &'static Operation> {
    [
        openapi::OPERATIONS,
        account::OPERATIONS,
        users::OPERATIONS,
        box_state::OPERATIONS,
        proxy::OPERATIONS,
        mappings::OPERATIONS,
        observer::OPERATIONS,
        candidate::OPERATIONS,
        resources::OPERATIONS,
        revisions::OPERATIONS,
        audit::OPERATIONS,
        update::OPERATIONS,
    ]
    .into_iter()
    .flatten()
}

pub fn routes() -> impl Iterator<Item = Route> {
    operations().map(|operation| Route {
        method: operation.method,
        path: full_path(operation),
        access: operation.access,
        handler: operation.handler,
    })
}

/// Routes hold static text; the table is read once at start.
fn full_path(operation: &Operation) -> &'static str {
    format!("/api/v1{}", operation.path).leak()
}

#[cfg(test)]
mod tests;

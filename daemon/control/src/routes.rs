//! Everything that can be asked, in one table.

use crate::http::{Access, Method, Response, Route, Router, Visit};
use crate::trouble::Trouble;
use crate::{api, assets, metrics, pages};

pub fn router() -> Router {
    let routes = HEALTH.iter().chain(assets::ROUTES).chain(metrics::ROUTES).copied().chain(pages::routes()).chain(api::routes());
    Router::new(routes, Some(pages::error_page))
}

const HEALTH: &[Route] = &[
    Route { method: Method::Get, path: "/healthz", access: Access::Anyone, handler: alive },
    Route { method: Method::Get, path: "/readyz", access: Access::Anyone, handler: ready },
];

/// This process answers.
fn alive(_: &Visit) -> Result<Response, Trouble> {
    Ok(Response::text(200, "ok\n"))
}

/// It can do its work: the database is usable and the applier answers.
fn ready(visit: &Visit) -> Result<Response, Trouble> {
    let database = visit.site.db.read(|db| Ok(db.query_row("SELECT count(*) FROM users", [], |row| row.get::<_, u32>(0))?));
    let seen = visit.site.applier.seen();
    Ok(match (database, &seen.away) {
        (Ok(_), None) => Response::text(200, "ok\n"),
        (Err(trouble), _) => Response::text(503, format!("{trouble}\n")),
        (_, Some(why)) => Response::text(503, format!("the applier does not answer: {why}\n")),
    })
}

//! Style, script and pictures, from the binary.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::http::{Access, Body, Method, Response, Route, Visit};
use crate::render::ASSETS;
use crate::secret;
use crate::trouble::Trouble;

/// Changes with every asset, so that `/assets/style.css?VERSION` can be kept for ever.
pub static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hash = ASSETS.iter().fold(Sha256::new(), |hash, (name, bytes)| hash.chain_update(name).chain_update(bytes));
    secret::hex(&hash.finalize()[..6])
});

pub const ROUTES: &[Route] = &[Route { method: Method::Get, path: "/assets/{file}", access: Access::Anyone, handler: asset }];

fn asset(visit: &Visit) -> Result<Response, Trouble> {
    let file = visit.param("file");
    let known = ASSETS.iter().find(|(name, _)| *name == file);
    let (name, bytes) = known.ok_or_else(|| Trouble::no_such("asset", file))?;
    let content_type = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    };
    let headers = vec![("Content-Type", content_type.into()), ("Cache-Control", "public, max-age=31536000, immutable".into())];
    Ok(Response { status: 200, headers, body: Body::Static(bytes) })
}

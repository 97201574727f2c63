//! `GET /`: the console, a page that asks the lake by `POST /v1/sql` as any client does. It is the same for everybody, and there is
//! nothing of the lake in it.

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// A file of the page.
struct Asset {
    path: &'static str,
    media: &'static str,
    text: &'static str,
}

/// One of `console/`, which has all that is served.
macro_rules! asset {
    ($path:expr, $file:literal, $media:literal) => {
        Asset { path: $path, media: $media, text: include_str!(concat!("../console/", $file)) }
    };
    ($file:literal, $media:literal) => {
        asset!(concat!("/console/", $file), $file, $media)
    };
}

static ASSETS: [Asset; 16] = [
    asset!("/", "index.html", "text/html; charset=utf-8"),
    asset!("console.css", "text/css; charset=utf-8"),
    asset!("main.js", "text/javascript; charset=utf-8"),
    asset!("about.js", "text/javascript; charset=utf-8"),
    asset!("answer.js", "text/javascript; charset=utf-8"),
    asset!("arrow.js", "text/javascript; charset=utf-8"),
    asset!("elements.js", "text/javascript; charset=utf-8"),
    asset!("flatbuffer.js", "text/javascript; charset=utf-8"),
    asset!("lake.js", "text/javascript; charset=utf-8"),
    asset!("login.js", "text/javascript; charset=utf-8"),
    asset!("place.js", "text/javascript; charset=utf-8"),
    asset!("refusal.js", "text/javascript; charset=utf-8"),
    asset!("state.js", "text/javascript; charset=utf-8"),
    asset!("tables.js", "text/javascript; charset=utf-8"),
    asset!("travel.js", "text/javascript; charset=utf-8"),
    asset!("values.js", "text/javascript; charset=utf-8"),
];

/// What a browser is to do with every file, whatever comes into the page: it runs and loads what came from here, sends nothing
/// elsewhere, takes no text for HTML, and no other page shows it within itself.
const SAFE: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // A browser asks each time whether its copy is still the one: the next release has the same paths.
    (header::CACHE_CONTROL, "no-cache"),
];

/// The page and its files.
pub(crate) fn routes() -> Router {
    ASSETS.iter().fold(Router::new(), |routes, asset| {
        let tag = format!("\"{}\"", &blake3::hash(asset.text.as_bytes()).to_hex()[..16]);
        routes.route(asset.path, get(async move |headers: HeaderMap| answer(asset, &tag, &headers)))
    })
}

/// The file, or where the client has it already, that it is the same.
fn answer(asset: &Asset, tag: &str, headers: &HeaderMap) -> Response {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let is_known = known.flat_map(|tags| tags.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, asset.media)], asset.text).into_response(),
    };
    let tag = HeaderValue::from_str(tag).ok().map(|tag| (header::ETAG, tag));
    response.headers_mut().extend(SAFE.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response.headers_mut().extend(tag);
    response
}

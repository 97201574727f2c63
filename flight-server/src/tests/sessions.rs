//! Session options where a connection is of many clients: behind a proxy that speaks TLS with them.

use std::fs;

use arrow_flight::Action;
use futures::TryStreamExt;
use lakebed_project::Users;
use prost::Message;
use tonic::Request;
use tonic::metadata::MetadataMap;

use super::lake::lake;
use super::{Client, Running, options};
use crate::session_options::{
    OptionErrorValue, OptionValue, SessionOptionValue, SessionOptions, SetSessionOptionsResult,
};
use crate::{Limits, Options};

/// The headers and the body of the answer to an action.
async fn action(client: &mut Client, name: &str, body: Vec<u8>, cookie: Option<&str>) -> (MetadataMap, Vec<u8>) {
    let mut request = Request::new(Action::new(name, body));
    let bearer = client.token().map(|token| format!("Bearer {token}"));
    for (name, value) in [("authorization", bearer.as_deref()), ("cookie", cookie)] {
        if let Some(value) = value {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
    }
    let answer = client.inner_mut().do_action(request).await.unwrap();
    let headers = answer.metadata().clone();
    let results: Vec<arrow_flight::Result> = answer.into_inner().try_collect().await.unwrap();
    (headers, results[0].body.to_vec())
}

/// Asks for version 3 from now on; gives the error, and the cookie that is set.
async fn pin(client: &mut Client, cookie: Option<&str>) -> (Option<OptionErrorValue>, Option<String>) {
    let version = SessionOptionValue { value: Some(OptionValue::Text("3".to_owned())) };
    let asked = SessionOptions { session_options: [("as_of".to_owned(), version)].into() };
    let (headers, body) = action(client, "SetSessionOptions", asked.encode_to_vec(), cookie).await;
    let errors = SetSessionOptionsResult::decode(&*body).unwrap().errors;
    (errors.get("as_of").map(|error| error.value()), cookie_of(&headers))
}

fn cookie_of(headers: &MetadataMap) -> Option<String> {
    headers.get("set-cookie").map(|cookie| cookie.to_str().unwrap().to_owned())
}

async fn version(client: &mut Client) -> String {
    let info = client.execute("SELECT min(version) FROM gold.numbers".to_owned(), None).await.unwrap();
    String::from_utf8(info.app_metadata.to_vec()).unwrap()
}

#[tokio::test]
async fn behind_a_proxy_options_are_kept_by_cookie_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("lakebed.toml"), "").unwrap();
    Users::of(directory.path()).set_password("ana", "ana's password").unwrap();
    let options = Options { behind_tls_proxy: true, ..options(directory.path(), Limits::default()) };
    let server = Running::with(options, lake(9, 1), |_| ()).await;
    let mut client = server.client().await;
    client.handshake("ana", "ana's password").await.unwrap();

    // A client that keeps no cookies is told, and goes on as before.
    assert_eq!(pin(&mut client, None).await.0, Some(OptionErrorValue::Error));
    assert_eq!(version(&mut client).await, "9");

    // One that does has a cookie from any answer before.
    let (headers, _) = action(&mut client, "GetSessionOptions", Vec::new(), None).await;
    let offered = cookie_of(&headers).unwrap();
    let (headers, _) = action(&mut client, "GetSessionOptions", Vec::new(), Some(&offered)).await;
    assert_eq!(cookie_of(&headers), None, "it is offered once");
    let (error, pinned) = pin(&mut client, Some(&offered)).await;
    assert_eq!(error, None);
    client.set_header("cookie", pinned.unwrap());
    assert_eq!(version(&mut client).await, "3");
}

#[tokio::test]
async fn where_a_connection_is_of_one_client_no_cookie_is_needed() {
    let server = Running::start(lake(9, 1)).await;
    let mut client = server.client().await;
    let (headers, _) = action(&mut client, "GetSessionOptions", Vec::new(), None).await;
    assert_eq!(cookie_of(&headers), None);
    assert_eq!(pin(&mut client, None).await.0, None);
    assert_eq!(version(&mut client).await, "3");
}

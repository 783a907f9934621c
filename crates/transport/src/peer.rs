//! The address a request comes from.

use std::net::{IpAddr, SocketAddr};

use actix_web::{
    HttpRequest,
    http::header::{HeaderMap, X_FORWARDED_FOR},
    web::Data,
};

use crate::Node;

/// The client's address: from the nearest proxy if that is trusted, otherwise the connection's.
pub(crate) fn address(request: &HttpRequest) -> Option<IpAddr> {
    let trusted = request.app_data::<Data<Node>>().is_some_and(|node| node.trust_forwarded_for);
    let told = if trusted { forwarded(request.headers()) } else { None };
    told.or_else(|| request.peer_addr().map(|peer| peer.ip()))
}

/// The last address of the last header. The nearest proxy added it; the client may have forged all before it.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(X_FORWARDED_FOR).last()?.to_str().ok()?;
    let last = last.rsplit(',').next()?.trim();
    let bare = last.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(last);
    let with_port = || last.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use actix_web::{http::StatusCode, test::TestRequest};
    use parlance_application::{App, Ports};
    use parlance_testkit::{TestNode, mocks::MockStore};
    use tokio::sync::watch;

    use super::*;
    use crate::{
        Hub, Serve,
        testing::{self, answers},
    };

    const PROXY: ([u8; 4], u16) = ([10, 0, 0, 1], 4_000);

    fn node(trust_forwarded_for: bool) -> Data<Node> {
        Data::new(Node { trust_forwarded_for, ..testing::node() })
    }

    /// For a request by the proxy, with these headers.
    fn told(trusted: bool, headers: &[&str]) -> String {
        let mut request = TestRequest::default().app_data(node(trusted)).peer_addr(PROXY.into());
        for header in headers {
            request = request.append_header((X_FORWARDED_FOR, *header));
        }
        address(&request.to_http_request()).map_or_else(String::new, |found| found.to_string())
    }

    #[test]
    fn the_nearest_proxy_is_believed_and_nobody_else() {
        for (headers, expected) in [
            (&["203.0.113.7"][..], "203.0.113.7"),
            (&["203.0.113.7:1234"], "203.0.113.7"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["[2001:db8::1]:443"], "2001:db8::1"),
            (&["192.0.2.1, 198.51.100.2 ,203.0.113.7 "], "203.0.113.7"),
            (&["192.0.2.1", "198.51.100.2, 203.0.113.7"], "203.0.113.7"),
            (&[], "10.0.0.1"),
            (&[""], "10.0.0.1"),
            (&["unknown"], "10.0.0.1"),
            (&["203.0.113.7, unknown"], "10.0.0.1"),
            (&["203.0.113.7,"], "10.0.0.1"),
            (&["[203.0.113.7"], "10.0.0.1"),
            (&["203.0.113.7", "é"], "10.0.0.1"),
        ] {
            assert_eq!(told(true, headers), expected, "{headers:?}");
            assert_eq!(told(false, headers), "10.0.0.1", "{headers:?}");
        }
    }

    /// How somebody else is answered after twenty wrong passwords for one address.
    async fn after_the_guesses_of_another(trusted: bool) -> [StatusCode; 2] {
        let mut store = MockStore::new();
        store.expect_credentials().returning(|_| Ok(None));
        let ports = TestNode::start(MockStore::new()).ports(store);
        let app = Data::new(App::new(Ports { rate_limits: true, ..ports }));
        let (node, draining) = (node(trusted), watch::channel(false).1);
        let serve = Serve { app, admin: None, node, hub: Hub::new(1), draining };
        // Whatever the guesser writes before it.
        let from = |n: usize, last: &str| {
            TestRequest::post()
                .uri("/api/v1/auth/signin")
                .peer_addr(PROXY.into())
                .insert_header((X_FORWARDED_FOR, format!("192.0.2.{n}, {last}")))
                .set_json(serde_json::json!({ "email": "ada@example.org", "password": "a guess" }))
        };
        let mut requests: Vec<_> = (0..21).map(|n| from(n, "203.0.113.7")).collect();
        requests.push(from(0, "203.0.113.8"));
        let answers = answers(serve, requests).await;
        assert!(answers[..20].iter().all(|answer| answer.status == StatusCode::UNAUTHORIZED));
        [answers[20].status, answers[21].status]
    }

    #[actix_web::test]
    async fn behind_a_trusted_proxy_nobody_locks_others_out() {
        let [again, another] = [StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED];
        assert_eq!(after_the_guesses_of_another(true).await, [again, another]);
        assert_eq!(after_the_guesses_of_another(false).await, [again, again]);
    }
}

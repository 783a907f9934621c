//! Somebody's session: it outlives each of its tokens, and so do the scenarios.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parlance_client::{NoToken, TokenSource};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::support::text;

/// What the nodes of a scenario sign with.
pub(crate) const SECRET: &str = "a secret of thirty-two bytes or so";
/// How long a client waits for a new token before it hears that there is none for now.
const PATIENT: Duration = Duration::from_secs(10);

pub(crate) struct Session {
    pub(crate) user: String,
    http: reqwest::Client,
    nodes: Vec<SocketAddr>,
    /// How long a token lasts, if not as long as the server says.
    life: Option<Duration>,
    /// Whoever wants a token while another is being fetched waits for that one.
    held: Mutex<Held>,
}

struct Held {
    access: String,
    refresh: String,
    /// Not to be used for new connections and requests: a fifth of its life is left.
    aging: Instant,
    renewals: u64,
}

/// To give to a client.
pub(crate) struct Tokens(pub(crate) Arc<Session>);

impl Session {
    /// `signed` is the answer to a sign-up.
    pub(crate) fn new(
        signed: &Value,
        (http, nodes): (reqwest::Client, Vec<SocketAddr>),
        life: Option<Duration>,
    ) -> Arc<Self> {
        let held = Mutex::new(Held::of(signed, life, 0));
        Arc::new(Self { user: text(&signed["user"]["id"]), http, nodes, life, held })
    }

    /// For a request, or for a socket whose token nobody renews.
    pub(crate) async fn token(&self) -> String {
        let renewed = self.renewed(None).await;
        renewed.unwrap_or_else(|why| panic!("{} has no token: {why}", self.user))
    }

    pub(crate) async fn renewals(&self) -> u64 {
        self.held.lock().await.renewals
    }

    async fn renewed(&self, stale: Option<String>) -> Result<String, NoToken> {
        let mut held = self.held.lock().await;
        let fresh = held.aging > Instant::now() && stale.as_ref() != Some(&held.access);
        if !fresh {
            let signed = self.exchange(&held.refresh).await?;
            *held = Held::of(&signed, self.life, held.renewals + 1);
        }
        Ok(held.access.clone())
    }

    /// The preceding token gets the same answer for a minute: so one whose answer was lost is sent again.
    async fn exchange(&self, refresh: &str) -> Result<Value, NoToken> {
        let begun = Instant::now();
        for node in self.nodes.iter().cycle() {
            let url = format!("http://{node}/api/v1/auth/refresh");
            let body = json!({ "refresh_token": refresh });
            if let Ok(answer) = self.http.post(url).json(&body).send().await {
                match answer.status() {
                    StatusCode::OK => {
                        if let Ok(signed) = answer.json().await {
                            return Ok(signed);
                        }
                    }
                    status if status.is_client_error() => return Err(NoToken::ForGood),
                    _ => {}
                }
            }
            if begun.elapsed() > PATIENT {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(NoToken::ForNow)
    }
}

impl Held {
    fn of(signed: &Value, life: Option<Duration>, renewals: u64) -> Self {
        let whole = text(&signed["access_token"]);
        let lasts = signed["expires_in"].as_u64().map(Duration::from_secs).expect("a time");
        let (access, lasts) = match life {
            Some(life) => (shortened(&whole, lasts.saturating_sub(life)), life),
            None => (whole, lasts),
        };
        let aging = Instant::now() + lasts * 4 / 5;
        Self { access, refresh: text(&signed["refresh_token"]), aging, renewals }
    }
}

/// The same token, expiring earlier: no server issues one as short as a short test needs.
fn shortened(token: &str, by: Duration) -> String {
    let mut any = Validation::new(Algorithm::HS256);
    any.validate_aud = false;
    let mut claims =
        jsonwebtoken::decode::<Value>(token, &DecodingKey::from_secret(SECRET.as_bytes()), &any)
            .expect("a token of ours")
            .claims;
    claims["exp"] = json!(claims["exp"].as_u64().expect("an end") - by.as_secs());
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a token")
}

impl TokenSource for Tokens {
    fn token(&self, stale: Option<String>) -> BoxFuture<'static, Result<String, NoToken>> {
        let session = self.0.clone();
        async move { session.renewed(stale).await }.boxed()
    }
}

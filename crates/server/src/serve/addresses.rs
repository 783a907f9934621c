//! Where the process listens, and where browsers find it.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use url::Url;

use crate::config::Settings;

/// Browsers at the server's own address are let in whatever is configured.
pub(super) fn allowed_origins(
    settings: &Settings,
    public_url: &str,
    address: SocketAddr,
) -> Vec<String> {
    settings
        .allowed_origins
        .iter()
        .map(|allowed| origin(allowed))
        .chain(own_origins(public_url, address))
        .collect()
}

fn own_origins(public_url: &str, address: SocketAddr) -> [String; 4] {
    let at = |host: &str| format!("http://{host}:{}", address.port());
    let own =
        [public_url.to_owned(), format!("http://{address}"), at("localhost"), at("127.0.0.1")];
    own.map(|url| origin(&url))
}

/// What a browser there sends as `Origin`: no path, and no default port.
pub(super) fn origin(of: &str) -> String {
    let origin = Url::parse(of).map(|url| url.origin().ascii_serialization());
    origin.unwrap_or_else(|_| of.to_owned())
}

/// Where browsers find the server, as far as it knows.
pub(super) fn public_url(settings: &Settings, address: SocketAddr) -> String {
    if let Some(told) = &settings.public_url {
        return told.clone();
    }
    let local = local_url(address);
    if address.ip().is_unspecified() {
        tracing::warn!(
            "PARLANCE_PUBLIC_URL is not set: pages from elsewhere than {local} are refused, and mails link there"
        );
    }
    local
}

/// The same for a worker, which listens nowhere.
pub(super) fn public_url_of_servers(settings: &Settings) -> String {
    settings.public_url.clone().unwrap_or_else(|| {
        let local = local_url(settings.listen);
        tracing::warn!(
            "PARLANCE_PUBLIC_URL is not set: mails will link to {local}, and a worker does not listen there; \
             set it to where browsers find your servers"
        );
        local
    })
}

/// Where a browser on this machine finds what listens there.
fn local_url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://localhost:{}", address.port())
    } else {
        format!("http://{address}")
    }
}

pub(super) fn bind(
    address: SocketAddr,
    setting: &str,
) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; choose another address with {setting}")
    })?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_found_at_this_machine() {
        for (listen, url) in [
            ("0.0.0.0:8080", "http://localhost:8080"),
            ("[::]:80", "http://localhost:80"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("192.0.2.1:9", "http://192.0.2.1:9"),
        ] {
            let address: SocketAddr = listen.parse().expect("an address");
            assert_eq!(local_url(address), url);
            let own = own_origins("https://Chat.example.com:443/team/", address);
            assert!(own.contains(&origin(url)) && own[0] == "https://chat.example.com", "{own:?}");
        }
        assert_eq!(origin("http://localhost:80"), "http://localhost");
        assert_eq!(origin("http://[::1]:8080"), "http://[::1]:8080");
    }
}

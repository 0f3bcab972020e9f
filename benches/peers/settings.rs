//! The configuration of each peer: the best that an honest operator would use for this
//! job. One core, kept connections, cache keys with the credentials.

use std::net::SocketAddr;
use std::path::Path;

use crate::nginx;
use crate::origin::AUTHORITY;

/// Longer than any round, so that no entry expires by its ttl.
const FRESH: &str = "1h";

/// The origin of a peer.
#[derive(Clone, Copy)]
pub(crate) enum Upstream<'a> {
    Plain(SocketAddr),
    /// With the folder of the trusted certificate authority.
    Tls(SocketAddr, &'a Path),
}

impl Upstream<'_> {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Plain(address) | Self::Tls(address, _) => *address,
        }
    }
}

/// The job of a peer.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) upstream: Upstream<'a>,
    /// Whether responses are stored. The gateway always stores them.
    pub(crate) caching: bool,
    pub(crate) access_log: bool,
    /// The number of responses that must fit.
    pub(crate) entries: u64,
    /// The address of the gateway's status page, if the scenario needs it.
    pub(crate) admin: Option<SocketAddr>,
}

impl<'a> Setup<'a> {
    /// A cache in front of this origin.
    pub(crate) fn cache(upstream: Upstream<'a>) -> Self {
        Self {
            upstream,
            caching: true,
            access_log: false,
            entries: 0,
            admin: None,
        }
    }

    /// A proxy in front of this origin.
    pub(crate) fn proxy(upstream: Upstream<'a>) -> Self {
        Self {
            caching: false,
            ..Self::cache(upstream)
        }
    }
}

/// `alexa-gateway serve --config`.
pub(crate) fn gateway(listen: SocketAddr, setup: &Setup<'_>) -> String {
    let (scheme, authority) = match setup.upstream {
        Upstream::Plain(_) => ("http", String::new()),
        Upstream::Tls(_, folder) => {
            let file = folder.join(AUTHORITY);
            (
                "https",
                format!("[upstream.tls]\nextra_ca_file = '{}'\n", file.display()),
            )
        }
    };
    let upstream = setup.upstream.address();
    let regions = ["na", "eu", "fe"]
        .map(|region| format!("[regions.{region}]\nupstream = '{scheme}://{upstream}'\n"))
        .concat();
    let entries = 2 * setup.entries.max(50_000);
    // Includes the overhead of each entry.
    let bytes = entries * 2048;
    let log = setup.access_log;
    let admin = setup.admin.map_or_else(
        || "enabled = false".to_owned(),
        |address| format!("address = '{address}'"),
    );
    format!(
        "[server]\nlisteners = '{listen}'\nmax_connections = 16384\n\
         [admin]\n{admin}\n\
         [cache]\nttl = '{FRESH}'\nexpiry_margin = '0s'\nmax_entries = {entries}\nmax_bytes = {bytes}\n\
         [log]\nrequests = {log}\nformat = 'json'\n{authority}{regions}"
    )
}

/// The contents of nginx's `http { … }`.
pub(crate) fn nginx_http(listen: SocketAddr, setup: &Setup<'_>, folder: &Path) -> String {
    let folder = folder.display();
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str("    ");
        text.push_str(&line);
        text.push('\n');
    };
    if setup.access_log {
        line(
            "log_format calls escape=json '{\"time\":\"$time_iso8601\",\"id\":\"$request_id\",\
              \"method\":\"$request_method\",\"path\":\"$uri\",\"status\":$status,\
              \"cache\":\"$upstream_cache_status\",\"seconds\":$request_time}';"
                .to_owned(),
        );
        line(format!(
            "access_log {folder}/access.log calls buffer=64k flush=1s;"
        ));
    }
    line(format!(
        "upstream alexa {{ server {}; keepalive 64; keepalive_requests 1000000000; }}",
        setup.upstream.address()
    ));
    if setup.caching {
        line(format!(
            "proxy_cache_path {folder}/cache levels=1:2 keys_zone=alexa:64m \
                      inactive={FRESH} max_size=4g use_temp_path=off;"
        ));
        // Without it, nginx opens a file for each hit.
        line(format!(
            "open_file_cache max={} inactive=1h;",
            nginx::files() / 2
        ));
        line("open_file_cache_valid 1h;".to_owned());
    }
    line(format!("server {{ listen {listen} backlog=4096;"));
    line("location / {".to_owned());
    line(
        "proxy_http_version 1.1; proxy_set_header Connection \"\"; \
          proxy_set_header Host api.amazonalexa.com;"
            .to_owned(),
    );
    if setup.caching {
        line("proxy_cache alexa; proxy_cache_key $request_uri$http_authorization;".to_owned());
        line(format!(
            "proxy_cache_valid 200 {FRESH}; proxy_cache_lock on;"
        ));
    }
    match setup.upstream {
        Upstream::Plain(_) => line("proxy_pass http://alexa;".to_owned()),
        Upstream::Tls(_, certificates) => {
            line(
                "proxy_pass https://alexa; proxy_ssl_verify on; proxy_ssl_name localhost; \
                  proxy_ssl_server_name on;"
                    .to_owned(),
            );
            line(format!(
                "proxy_ssl_trusted_certificate {}/{AUTHORITY};",
                certificates.display()
            ));
        }
    }
    line("}}".to_owned());
    text
}

/// Varnish's VCL. Varnish is measured as a cache only, because it speaks no TLS to origins.
pub(crate) fn varnish(setup: &Setup<'_>) -> String {
    let origin = setup.upstream.address();
    let (host, port) = (origin.ip(), origin.port());
    format!(
        "vcl 4.1;\n\
         backend alexa {{ .host = \"{host}\"; .port = \"{port}\"; }}\n\
         sub vcl_recv {{ return (hash); }}\n\
         sub vcl_hash {{ hash_data(req.url); hash_data(req.http.Authorization); return (lookup); }}\n\
         sub vcl_backend_response {{ set beresp.ttl = {FRESH}; set beresp.grace = 0s; return (deliver); }}\n"
    )
}

/// HAProxy's configuration. It never caches requests with `Authorization`.
pub(crate) fn haproxy(listen: SocketAddr, setup: &Setup<'_>) -> String {
    let origin = setup.upstream.address();
    let tls = match setup.upstream {
        Upstream::Plain(_) => String::new(),
        Upstream::Tls(_, folder) => format!(
            " ssl verify required verifyhost localhost sni str(localhost) alpn h2,http/1.1 ca-file {}/{AUTHORITY}",
            folder.display()
        ),
    };
    // HAProxy counts two files per connection, idle ones included, and refuses to start
    // if the sum exceeds the limit of the system.
    format!(
        "global\n  maxconn 16384\n  no strict-limits\n  nbthread 1\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  timeout server 60s\n  \
         timeout http-keep-alive 300s\n  http-reuse always\n  option http-keep-alive\n\
         listen alexa\n  bind {listen}\n  server alexa {origin}{tls}\n"
    )
}

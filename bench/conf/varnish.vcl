vcl 4.1;
# Varnish for hits: everything is fetched once and kept. @NAMES@ are filled in by bench/peers.py.
backend files { .host = "127.0.0.1"; .port = "@BACKEND@"; }
sub vcl_recv { return (hash); }
sub vcl_backend_response { set beresp.ttl = 1h; }

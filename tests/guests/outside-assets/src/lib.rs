//! Reaches for what is not its own, and answers one line per try.

use std::env;
use std::fs;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use gw_sdk::outbound::Outgoing;
use gw_sdk::{Error, Request, Response, config, handler, keyvalue};

#[handler]
fn answer(_: Request) -> Result<Response, Error> {
    let tries = [
        ("asset", fs::read("/assets/table.txt").is_ok()),
        ("parent", fs::read("/assets/../secret.txt").is_ok()),
        ("link", fs::read("/assets/link.txt").is_ok()),
        ("root", fs::read_dir("/").is_ok()),
        ("etc", fs::read("/etc/passwd").is_ok()),
        ("relative", fs::read("secret.txt").is_ok()),
        ("write", fs::write("/assets/new.txt", "x").is_ok()),
        ("overwrite", fs::write("/assets/table.txt", "x").is_ok()),
        ("remove", fs::remove_file("/assets/table.txt").is_ok()),
        ("environment", env::vars().next().is_some()),
        ("arguments", env::args().nth(1).is_some()),
        ("network", TcpStream::connect("127.0.0.1:80").is_ok()),
        ("listening", TcpListener::bind("127.0.0.1:0").is_ok()),
        ("datagrams", UdpSocket::bind("127.0.0.1:0").is_ok()),
        ("names", "localhost:80".to_socket_addrs().is_ok()),
        ("http", Outgoing::new("GET", "http://127.0.0.1/").send().is_ok()),
        ("bucket", keyvalue::open("default").is_ok()),
        ("values", config::get("PATH").is_ok()),
        ("all values", config::get_all().is_ok()),
    ];
    let reached = tries.iter().filter(|(_, reached)| *reached).map(|(name, _)| *name);
    Ok(Response::new(200, "text/plain", reached.collect::<Vec<_>>().join(" ")))
}

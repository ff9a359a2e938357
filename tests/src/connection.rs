//! A client on one connection that it keeps, so that a load has as many as it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::gateway::Answer;

/// One connection to a gateway. Only after an answer that ends it is another one opened.
pub struct Connection {
    address: String,
    stream: Option<BufReader<TcpStream>>,
    opened: usize,
}

impl Connection {
    /// Connects to `http://HOST:PORT`.
    pub fn open(url: &str) -> Self {
        let address = url.trim_start_matches("http://").to_owned();
        let mut connection = Self { address, stream: None, opened: 0 };
        connection.stream();
        connection
    }

    /// How often it had to connect.
    pub fn opened(&self) -> usize {
        self.opened
    }

    /// One request and its answer.
    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        let mut request = head(method, path, body);
        request.extend(body);
        // A server that refuses a body may answer, and stop reading, before it is all sent.
        let _ = self.stream().write_all(&request);
        self.receive()
    }

    /// All of a POST but its last byte, which [`Self::finish`] sends.
    ///
    /// # Panics
    /// Where the connection breaks.
    pub fn begin(&mut self, path: &str, body: &[u8]) {
        let mut request = head("POST", path, body);
        request.extend(&body[..body.len() - 1]);
        self.stream().write_all(&request).expect("the gateway reads");
    }

    /// The last byte of the request that was begun.
    ///
    /// # Panics
    /// Where the connection breaks.
    pub fn finish(&mut self, body: &[u8]) {
        self.stream().write_all(&body[body.len() - 1..]).expect("the gateway reads");
    }

    /// The answer to the request that was sent.
    ///
    /// # Panics
    /// Where there is none, or none that is whole.
    pub fn receive(&mut self) -> Answer {
        let mut reader = self.stream.take().expect("a request was sent");
        let mut line = |what: &str| {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap_or_else(|error| panic!("{what}: {error}"));
            line.trim_end().to_owned()
        };
        let first = line("the status line");
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {first:?}"));
        let mut headers = Vec::new();
        loop {
            let header = line("a header");
            let Some((name, value)) = header.split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: String::new() };
        let length = answer.header("content-length").parse().expect("the answer has a length");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the answer is whole");
        answer.body = String::from_utf8(body).expect("the answer is text");
        // What refused a body has not read it, so nothing can follow it.
        if answer.header("connection") != "close" && status != 413 {
            self.stream = Some(reader);
        }
        answer
    }

    fn stream(&mut self) -> &mut TcpStream {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address).expect("the gateway listens");
            stream.set_nodelay(true).expect("a socket option");
            stream.set_read_timeout(Some(Duration::from_mins(2))).expect("a socket option");
            self.stream = Some(BufReader::new(stream));
            self.opened += 1;
        }
        self.stream.as_mut().expect("it was opened").get_mut()
    }
}

fn head(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: gw\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    )
    .into_bytes()
}

// SPDX-License-Identifier: Apache-2.0
// A Rust server with a thread for each session, built with panic=abort. `die index` (out of bounds), `die unwrap`,
// `die overflow`, `die cell` (already borrowed), `die null` (a null pointer in unsafe code), `die abort`.
use std::cell::RefCell;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

trait Command {
    fn run(&self, word: &str) -> Result<String, String>;
}

struct Echo;
impl Command for Echo {
    fn run(&self, word: &str) -> Result<String, String> {
        Ok(word.to_string())
    }
}

struct Die;
impl Command for Die {
    #[inline(never)]
    fn run(&self, word: &str) -> Result<String, String> {
        let numbers = black_box(vec![1, 2, 3]);
        let shared = RefCell::new(1u8);
        let result = match word {
            "index" => numbers[black_box(7)],
            "unwrap" => black_box(None::<i32>).unwrap(),
            "overflow" => i32::from(black_box(255u8).checked_add(1).expect("no overflow")),
            "cell" => {
                let _first = shared.borrow_mut();
                i32::from(*shared.borrow())
            }
            "null" => unsafe { *black_box(8 as *const i32) },
            "abort" => std::process::abort(),
            _ => 0,
        };
        Ok(format!("alive {result}"))
    }
}

fn converse(mut stream: TcpStream) {
    let mut sum = 0i64;
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while let Ok(count) = reader.read_line(&mut line) {
        if count == 0 {
            break;
        }
        let (name, word) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let command: Box<dyn Command> = if name == "die" { Box::new(Die) } else { Box::new(Echo) };
        let answer = if name == "add" {
            sum += word.parse::<i64>().unwrap_or(0);
            sum.to_string()
        } else {
            black_box(command).run(word).unwrap_or_else(|error| error)
        };
        if writeln!(stream, "{answer}").is_err() {
            break;
        }
        line.clear();
    }
}

fn main() {
    let place = std::env::args().nth(2).unwrap();
    let file = place.split_once(':').unwrap().1;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::write(format!("{file}.new"), listener.local_addr().unwrap().port().to_string()).unwrap();
    std::fs::rename(format!("{file}.new"), file).unwrap();
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || converse(stream));
    }
}

//! Results over HTTP, in the pieces that they are sent in.

use bytes::Bytes;
use datafusion::parquet::file::reader::{FileReader, SerializedFileReader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Running;
use super::lake::lake;

/// The pieces of the answer to a statement.
async fn posted(server: &Running, format: &str, sql: &str) -> Vec<Vec<u8>> {
    let mut connection = TcpStream::connect(server.http).await.unwrap();
    let head = format!("POST /v1/sql?format={format} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    connection.write_all(format!("{head}Content-Length: {}\r\n\r\n{sql}", sql.len()).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    let (head, mut rest) = answer.split_at(place(&answer, b"\r\n\r\n") + 4);
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let mut pieces = Vec::new();
    loop {
        let line = place(rest, b"\r\n");
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return pieces;
        }
        pieces.push(rest[line + 2..][..length].to_vec());
        rest = &rest[line + 2 + length + 2..];
    }
}

fn place(bytes: &[u8], of: &[u8]) -> usize {
    bytes.windows(of.len()).position(|window| window == of).expect("the answer is whole")
}

/// A column of nulls has no bytes, and as text it has its name in every row.
#[tokio::test]
async fn no_piece_of_a_text_is_huge() {
    let server = Running::start(lake(1, 1)).await;
    let name = "a_name_of_some_length_".repeat(3);
    let sql = format!("SELECT n, NULL AS {name}_1, NULL AS {name}_2 FROM gold.numbers");
    for (format, of_each_row, rows) in [("json", "\"n\":", 65_536), ("csv", "\n", 65_537)] {
        let pieces = posted(&server, format, &sql).await;
        assert!(pieces.len() > 10, "{} pieces of {format}", pieces.len());
        // At a MiB it would have been cut, rather than written in fewer rows.
        assert!(pieces.iter().all(|piece| piece.len() < 1 << 20), "a piece of {format} is huge");
        let whole = String::from_utf8(pieces.concat()).unwrap();
        assert_eq!(whole.matches(of_each_row).count(), rows, "{format}");
    }
}

#[tokio::test]
async fn a_parquet_file_has_row_groups_of_some_size() {
    let server = Running::start(lake(1, 1)).await;
    let sql = "SELECT repeat(CAST(n AS VARCHAR), 200) AS text FROM gold.numbers";
    let pieces = posted(&server, "parquet", sql).await;
    assert!(pieces.iter().all(|piece| piece.len() <= 1 << 20));
    let file = SerializedFileReader::new(Bytes::from(pieces.concat())).unwrap();
    let groups = file.metadata().row_groups();
    assert_eq!(groups.iter().map(|group| group.num_rows()).sum::<i64>(), 65_536);
    let sizes: Vec<_> = groups.iter().map(|group| group.total_byte_size()).collect();
    assert!(sizes.len() > 1 && sizes.iter().all(|size| *size < 40 << 20), "{sizes:?}");
}

//! A namespace in one line: `file:/srv/disk.img,bs=512,ro`.

use crate::{
    Backend, BlockSize, File, Geometry, GeometryError, Memory, Null, OpenError, SizeError,
    display_size, parse_size,
};
use std::fmt;
use std::mem;
use std::path::PathBuf;
use std::str::FromStr;

/// What a namespace is made of, as a person writes it.
///
/// | Spec                                           |                                            |
/// |------------------------------------------------|--------------------------------------------|
/// | `mem:SIZE[,bs=N][,uuid=UUID]`                  | [`Memory`]                                 |
/// | `file:PATH[,bs=N][,ro][,direct][,uuid=UUID]`   | [`File`]: a regular file or a block device |
/// | `null:SIZE[,bs=N][,uuid=UUID]`                 | [`Null`]                                   |
///
/// `SIZE` is what [`parse_size`] reads, at least one block and whole blocks. `bs` is the block size
/// in bytes, 512 or 4096, and 4096 when left out. `ro` refuses every write. `direct` reads
/// and writes past the page cache ([`File::open_direct`]). `uuid` is the namespace's UUID; when left
/// out, whoever serves the namespace derives one from [`Backend::location`]. Options may come in any
/// order, each once.
///
/// A path may contain commas: from the end of the line backwards, `,bs=…`, `,ro`, `,direct` and
/// `,uuid=…` are options, and the path is everything before the first thing that is none. So
/// `file:a,b.img,ro` is the file `a,b.img`. For a path that itself ends like an option there is no
/// spec; make a link to it, or a [`Source::File`] in code.
///
/// [`Display`](fmt::Display) writes the shortest spec that means the same.
///
/// ```
/// use nvmf_storage::NamespaceSpec;
/// let spec: NamespaceSpec = "mem:1024K,bs=512".parse()?;
/// assert_eq!(spec.to_string(), "mem:1M,bs=512");
///
/// let error = "mem:1M,bsize=512".parse::<NamespaceSpec>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "namespace `mem:1M,bsize=512`: unknown option `bsize=512`; mem has bs=N, uuid=UUID"
/// );
/// # Ok::<(), nvmf_storage::SpecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamespaceSpec {
    /// Where the blocks are.
    pub source: Source,
    /// The size of a block.
    pub block_size: BlockSize,
    /// The namespace's UUID, if it was given: 16 bytes in the order they are written, never all
    /// zero.
    pub uuid: Option<[u8; 16]>,
}

/// Where the blocks of a [`NamespaceSpec`] are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// In memory.
    Memory {
        /// The size in bytes.
        bytes: u64,
    },
    /// In a regular file or on a block device.
    File {
        /// Where it is.
        path: PathBuf,
        /// Whether writes are refused.
        read_only: bool,
        /// Whether reads and writes go past the page cache.
        direct: bool,
    },
    /// Nowhere.
    Null {
        /// The size in bytes.
        bytes: u64,
    },
}

impl NamespaceSpec {
    /// A spec with the default block size of 4096 bytes and no UUID.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self { source, block_size: BlockSize::default(), uuid: None }
    }

    /// The same with another size in bytes, for memory and null: what to keep of one that was
    /// [resized](Backend::resize), so that it is opened as large again. The spec of a file has no
    /// size, and stays as it is.
    ///
    /// ```
    /// use nvmf_storage::NamespaceSpec;
    /// let spec: NamespaceSpec = "mem:1G,bs=512".parse()?;
    /// assert_eq!(spec.with_bytes(3 << 30).to_string(), "mem:3G,bs=512");
    /// # Ok::<(), nvmf_storage::SpecError>(())
    /// ```
    #[must_use]
    pub fn with_bytes(mut self, size: u64) -> Self {
        match &mut self.source {
            Source::Memory { bytes } | Source::Null { bytes } => *bytes = size,
            Source::File { .. } => {}
        }
        self
    }

    /// Opens what the spec says. The location of memory and null is `mem:1` and `null:1`.
    ///
    /// # Errors
    ///
    /// [`OpenError`], one line that says what was asked, what is wrong and what to try.
    pub fn open(&self) -> Result<Box<dyn Backend>, OpenError> {
        self.open_as(1)
    }

    /// Opens what the spec says as one of several: `number`, say the namespace's id, tells memories
    /// and nulls apart in [`Backend::location`]. The location of a file does not depend on it.
    ///
    /// # Errors
    ///
    /// As [`NamespaceSpec::open`].
    pub fn open_as(&self, number: u32) -> Result<Box<dyn Backend>, OpenError> {
        let geometry = |bytes| Geometry::from_bytes(self.block_size, bytes);
        Ok(match &self.source {
            Source::Memory { bytes } => {
                Box::new(Memory::new(geometry(*bytes)?)?.with_number(number))
            }
            Source::File { path, read_only, direct: false } => {
                Box::new(File::open(path, self.block_size, *read_only)?)
            }
            Source::File { path, read_only, direct: true } => {
                Box::new(File::open_direct(path, self.block_size, *read_only)?)
            }
            Source::Null { bytes } => Box::new(Null::new(geometry(*bytes)?).with_number(number)),
        })
    }
}

impl FromStr for NamespaceSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        parse(text).map_err(|problem| SpecError { spec: text.into(), problem })
    }
}

fn parse(text: &str) -> Result<NamespaceSpec, Problem> {
    let (kind, rest) = text.split_once(':').ok_or(Problem::Kind)?;
    let kind = match kind {
        "mem" => Kind::Memory,
        "file" => Kind::File,
        "null" => Kind::Null,
        _ => return Err(Problem::Kind),
    };
    let (place, options) = parse_options(kind, rest)?;
    let block_size = options.block_size.unwrap_or_default();
    let bytes = || -> Result<u64, Problem> {
        let bytes = parse_size(place)?;
        Geometry::from_bytes(block_size, bytes)?;
        Ok(bytes)
    };
    let source = match kind {
        Kind::Memory => Source::Memory { bytes: bytes()? },
        Kind::Null => Source::Null { bytes: bytes()? },
        Kind::File if place.is_empty() => return Err(Problem::NoPath),
        Kind::File if place.contains('\0') => return Err(Problem::NulInPath),
        Kind::File => {
            let Options { read_only, direct, .. } = options;
            Source::File { path: place.into(), read_only, direct }
        }
    };
    Ok(NamespaceSpec { source, block_size, uuid: options.uuid })
}

/// The word before the colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    File,
    Null,
}

impl Kind {
    fn known_options(self) -> &'static str {
        match self {
            Self::Memory => "mem has bs=N, uuid=UUID",
            Self::File => "file has bs=N, ro, direct, uuid=UUID",
            Self::Null => "null has bs=N, uuid=UUID",
        }
    }
}

#[derive(Default)]
struct Options {
    block_size: Option<BlockSize>,
    read_only: bool,
    direct: bool,
    uuid: Option<[u8; 16]>,
}

/// Takes options off the end; what is left is the size or the path.
fn parse_options(kind: Kind, text: &str) -> Result<(&str, Options), Problem> {
    let mut options = Options::default();
    let mut place = text;
    while let Some((before, option)) = place.rsplit_once(',') {
        let again = || Problem::Repeated { option: option.into() };
        if let Some(size) = option.strip_prefix("bs=") {
            let size = parse_size(size)?;
            let size = BlockSize::new(u32::try_from(size).unwrap_or(u32::MAX))?;
            if options.block_size.replace(size).is_some() {
                return Err(again());
            }
        } else if let Some(uuid) = option.strip_prefix("uuid=") {
            let parsed = parse_uuid(uuid).ok_or_else(|| Problem::Uuid { text: uuid.into() })?;
            if options.uuid.replace(parsed).is_some() {
                return Err(again());
            }
        } else if option == "ro" && kind == Kind::File {
            if mem::replace(&mut options.read_only, true) {
                return Err(again());
            }
        } else if option == "direct" && kind == Kind::File {
            if mem::replace(&mut options.direct, true) {
                return Err(again());
            }
        } else if kind == Kind::File {
            // A path with a comma.
            break;
        } else {
            return Err(Problem::UnknownOption { option: option.into(), kind });
        }
        place = before;
    }
    Ok((place, options))
}

/// 32 hexadecimal digits, with hyphens as in RFC 9562 or without; not all zero, which in Identify
/// data means that there is none.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let hyphens = [8, 13, 18, 23];
    let digits: Vec<u8> = match text.len() {
        32 => text.bytes().collect(),
        36 if hyphens.iter().all(|at| text.as_bytes()[*at] == b'-') => text
            .bytes()
            .enumerate()
            .filter(|(at, _)| !hyphens.contains(at))
            .map(|(_, b)| b)
            .collect(),
        _ => return None,
    };
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    (uuid != [0; 16]).then_some(uuid)
}

impl fmt::Display for NamespaceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Memory { bytes } => write!(f, "mem:{}", display_size(*bytes))?,
            Source::File { path, .. } => write!(f, "file:{}", path.display())?,
            Source::Null { bytes } => write!(f, "null:{}", display_size(*bytes))?,
        }
        if self.block_size != BlockSize::default() {
            write!(f, ",bs={}", self.block_size.bytes())?;
        }
        if let Source::File { read_only: true, .. } = self.source {
            f.write_str(",ro")?;
        }
        if let Source::File { direct: true, .. } = self.source {
            f.write_str(",direct")?;
        }
        if let Some(uuid) = self.uuid {
            f.write_str(",uuid=")?;
            for (at, byte) in uuid.iter().enumerate() {
                let hyphen = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
                write!(f, "{hyphen}{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Why a text is not a [`NamespaceSpec`]; its one line quotes the text and says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("namespace `{}`: {problem}", spec.escape_debug())]
pub struct SpecError {
    spec: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("starts with none of mem: file: null:; try mem:256M, file:PATH or null:1G")]
    Kind,
    #[error("there is no path after file:")]
    NoPath,
    #[error("a path cannot contain a NUL")]
    NulInPath,
    #[error("unknown option `{}`; {}", option.escape_debug(), kind.known_options())]
    UnknownOption { option: String, kind: Kind },
    #[error("`{option}` after another of its kind; give each option once")]
    Repeated { option: String },
    #[error("`{}` is not a UUID; write 8-4-4-4-12 hexadecimal digits, not all zero", text.escape_debug())]
    Uuid { text: String },
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error(transparent)]
    Geometry(#[from] GeometryError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> NamespaceSpec {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn refused(text: &str) -> String {
        text.parse::<NamespaceSpec>().expect_err(text).to_string()
    }

    fn file(path: &str, read_only: bool) -> Source {
        Source::File { path: path.into(), read_only, direct: false }
    }

    fn direct(path: &str, read_only: bool) -> Source {
        Source::File { path: path.into(), read_only, direct: true }
    }

    const UUID: [u8; 16] = *b"\x01\x23\x45\x67\x89\xAB\xCD\xEF\x01\x23\x45\x67\x89\xAB\xCD\xEF";

    #[test]
    fn the_kinds_with_their_defaults() {
        assert_eq!(parsed("mem:256M"), NamespaceSpec::new(Source::Memory { bytes: 256 << 20 }));
        assert_eq!(parsed("null:1.5G"), NamespaceSpec::new(Source::Null { bytes: 3 << 29 }));
        assert_eq!(parsed("file:/srv/a.img"), NamespaceSpec::new(file("/srv/a.img", false)));
        assert_eq!(parsed("file:a b").source, file("a b", false));
    }

    #[test]
    fn options_in_any_order() {
        let all = NamespaceSpec {
            source: file("d", true),
            block_size: BlockSize::B512,
            uuid: Some(UUID),
        };
        for text in [
            "file:d,bs=512,ro,uuid=01234567-89ab-cdef-0123-456789abcdef",
            "file:d,uuid=0123456789ABCDEF0123456789ABCDEF,ro,bs=512",
            "file:d,ro,bs=0.5K,uuid=01234567-89AB-cdef-0123-456789abcdef",
        ] {
            assert_eq!(parsed(text), all, "{text}");
        }
        for text in ["file:d,ro,direct", "file:d,direct,ro", "file:d,bs=4096,direct,ro"] {
            assert_eq!(parsed(text).source, direct("d", true), "{text}");
            assert_eq!(parsed(text).to_string(), "file:d,ro,direct");
        }
        assert_eq!(parsed("file:d,direct").source, direct("d", false));
        assert_eq!(parsed("mem:512,bs=512").block_size, BlockSize::B512);
    }

    #[test]
    fn a_path_keeps_its_commas_colons_and_equals_signs() {
        assert_eq!(parsed("file:a,b.img").source, file("a,b.img", false));
        assert_eq!(parsed("file:a,b=c,ro").source, file("a,b=c", true));
        assert_eq!(parsed("file:a,ro,b").source, file("a,ro,b", false));
        assert_eq!(parsed("file:a,direct,b").source, file("a,direct,b", false));
        assert_eq!(parsed("file:mem:1M").source, file("mem:1M", false));
    }

    #[test]
    fn an_unknown_option_is_named_with_the_known_ones() {
        let message = refused("mem:1M,size=3,bs=512");
        assert!(message.contains("`size=3`") && message.contains("bs=N, uuid=UUID"), "{message}");
        assert!(refused("mem:1M,ro").contains("unknown option `ro`"));
        assert!(refused("null:1M,direct").contains("unknown option `direct`"));
        assert!(refused("null:1M,").contains("unknown option ``"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("", "mem: file: null:"),
            ("256M", "try mem:256M"),
            ("ram:1M", "mem: file: null:"),
            ("MEM:1M", "mem: file: null:"),
            ("mem:", "`` is not a size"),
            ("mem:0", "size of zero"),
            ("mem:4097", "not a multiple of the block size 4096"),
            ("mem:512", "not a multiple of the block size 4096"),
            ("mem:-1M", "`-1M` is not a size"),
            ("mem:8192P", "too large"),
            ("mem:1M,bs=520", "use 512 or 4096"),
            ("mem:1M,bs=0", "use 512 or 4096"),
            ("mem:1M,bs=1T", "use 512 or 4096"),
            ("mem:1M,bs=", "`` is not a size"),
            ("mem:1M,bs=512,bs=512", "once"),
            ("file:a,ro,ro", "once"),
            ("file:a,direct,bs=512,direct", "once"),
            ("file:", "no path"),
            ("file:,ro", "no path"),
            ("file:a\0b", "NUL"),
            ("file:a,bs=1000", "use 512 or 4096"),
            ("file:a,uuid=", "not a UUID"),
            ("file:a,uuid=00000000-0000-0000-0000-000000000000", "not all zero"),
            ("file:a,uuid=0123456-789ab-cdef-0123-456789abcdef", "not a UUID"),
            ("file:a,uuid=+123456789abcdef0123456789abcdef0", "not a UUID"),
            ("file:a,uuid=éééééééééééééééé", "not a UUID"),
        ] {
            let message = refused(text);
            assert!(message.contains(says), "{text}: {message}");
            assert!(message.contains(&format!("`{}`", text.escape_debug())), "{message}");
        }
    }

    #[test]
    fn a_message_stays_on_one_line() {
        assert!(!refused("mem:1M,a\nb").contains('\n'));
        assert!(!refused("file:x,uuid=\n").contains('\n'));
    }

    fn any_spec() -> impl Strategy<Value = NamespaceSpec> {
        let blocks = 1..=Geometry::MAX_BYTES >> 12;
        // Ends in no option because it ends in a dot.
        let path = "[ -~é]{0,20}\\.";
        let uuid = proptest::option::of(any::<[u8; 16]>().prop_filter("nil", |u| *u != [0; 16]));
        (0..3, blocks, path, any::<[bool; 3]>(), uuid).prop_map(
            |(kind, blocks, path, [read_only, direct, small], uuid)| NamespaceSpec {
                source: match kind {
                    0 => Source::Memory { bytes: blocks << 12 },
                    1 => Source::Null { bytes: blocks << 12 },
                    _ => Source::File { path: path.into(), read_only, direct },
                },
                block_size: if small { BlockSize::B512 } else { BlockSize::B4096 },
                uuid,
            },
        )
    }

    proptest! {
        #[test]
        fn a_displayed_spec_reads_back(spec in any_spec()) {
            prop_assert_eq!(spec.to_string().parse::<NamespaceSpec>(), Ok(spec));
        }

        #[test]
        fn no_text_makes_the_parser_panic(
            text in "(mem:|file:|null:)?[0-9MGa.]{0,4}(,(bs=|uuid=|ro|direct|x)\\PC{0,36}){0,3}"
        ) {
            let _ = text.parse::<NamespaceSpec>();
        }
    }

    #[test]
    fn a_spec_opens_as_what_it_says() {
        let disk = parsed("mem:1M,bs=512").open_as(3).unwrap();
        assert_eq!((disk.geometry().blocks(), disk.location().as_str()), (2048, "mem:3"));
        assert_eq!(parsed("null:1G").open().unwrap().location(), "null:1");

        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(1 << 20).unwrap();
        let disk = parsed(&format!("file:{},ro", image.path().display())).open().unwrap();
        assert!(disk.geometry().read_only());
        assert_eq!(disk.geometry().blocks(), 256);
        let canonical = image.path().canonicalize().unwrap();
        assert_eq!(disk.location(), format!("file:{}", canonical.display()));
    }

    #[test]
    fn a_spec_of_what_was_resized_opens_as_large_again() {
        for text in ["mem:1M", "null:1M"] {
            let spec = parsed(text);
            let disk = spec.open().unwrap();
            let geometry = disk.resize(Some(3 << 20)).unwrap();
            let saved = parsed(&spec.with_bytes(geometry.bytes()).to_string());
            assert_eq!(saved.open().unwrap().geometry(), geometry);
        }
        assert_eq!(parsed("file:a,ro").with_bytes(1 << 20).to_string(), "file:a,ro");
    }

    #[test]
    fn more_than_memory_can_hold_is_an_error_and_no_abort() {
        for text in ["mem:17T", "mem:8191P"] {
            let error = parsed(text).open().unwrap_err();
            assert!(matches!(error, OpenError::TooLargeForMemory { .. }), "{error}");
        }
        assert!(parsed("null:8191P").open().is_ok());
    }
}

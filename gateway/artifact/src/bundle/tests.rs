use super::*;

fn content() -> BundleContent {
    BundleContent {
        manifest_text: "[app]\nname = \"a\"\nversion = \"1\"\n\n[[plugin]]\nname = \"p\"\n\
                        path = \"p.wasm\"\n\n[[route]]\npath = \"/\"\nplugins = [\"p\"]\n"
            .to_owned(),
        plugins: vec![("p".to_owned(), Bytes::from_static(b"\0asm"))],
        assets: vec![
            ("words/en.txt".to_owned(), Bytes::from_static(b"hello")),
            (format!("{}.txt", "long".repeat(40)), Bytes::from_static(b"a long name")),
        ],
        models: vec![BundledModel {
            name: "m".to_owned(),
            digest: Digest::of(b"model"),
            bytes: Some(Bytes::from_static(b"model")),
        }],
    }
}

#[test]
fn a_bundle_comes_back_as_it_was_packed() {
    let key = SigningKey::generate().unwrap();
    let bundle = pack(&content(), &key).unwrap();
    assert_eq!(pack(&content(), &key).unwrap(), bundle, "equal content gives equal bytes");
    let verified = verify(&bundle, &[key.public()]).unwrap();
    assert_eq!(verified.signer, key.public());
    assert_eq!(verified.manifest.app.name, "a");
    let mut expected = content();
    expected.assets.sort();
    assert_eq!(verified.content, expected);
}

#[test]
fn a_bundle_changed_or_cut_anywhere_is_refused() {
    let key = SigningKey::generate().unwrap();
    let trusted = [key.public()];
    let bundle = pack(&content(), &key).unwrap();
    for index in (0..bundle.len()).step_by(7).chain(0..400) {
        let mut changed = bundle.to_vec();
        changed[index] ^= 1;
        assert!(verify(&changed.into(), &trusted).is_err(), "byte {index} changed");
        assert!(verify(&bundle.slice(..index), &trusted).is_err(), "cut at {index}");
    }
}

#[test]
fn only_trusted_keys_may_sign() {
    let [key, other] = [(); 2].map(|()| SigningKey::generate().unwrap());
    let bundle = pack(&content(), &key).unwrap();
    let refused = verify(&bundle, &[other.public()]).unwrap_err();
    assert!(matches!(refused, BundleError::UntrustedKey { key: named } if named == key.public()));
    assert!(matches!(verify(&bundle, &[]), Err(BundleError::UntrustedKey { .. })));
    // The other's signature under the trusted key's name.
    let signature = BASE64.encode(other.sign(&signed(&Digest::of(&payload(&bundle)))));
    let forged = assemble(&payload(&bundle), &key.public(), &signature);
    assert!(matches!(verify(&forged, &[key.public()]), Err(BundleError::BadSignature)));
    let unsigned = assemble(&payload(&bundle), &key.public(), "");
    assert!(matches!(verify(&unsigned, &[key.public()]), Err(BundleError::Unsigned)));
    assert!(matches!(verify(&Bytes::new(), &[]), Err(BundleError::NotABundle { .. })));
}

fn payload(bundle: &Bytes) -> Bytes {
    let length = u32::from_le_bytes(bundle[4..8].try_into().unwrap()) as usize;
    bundle.slice(8 + length..)
}

fn assemble(payload: &[u8], key: &PublicKey, signature: &str) -> Bytes {
    let header = Header { digest: Digest::of(payload), key: *key, signature: signature.to_owned() };
    let header = serde_json::to_vec(&header).unwrap();
    let length = u32::try_from(header.len()).unwrap().to_le_bytes();
    [MAGIC.as_slice(), &length, &header, payload].concat().into()
}

type File<'f> = (&'f str, &'f [u8]);

/// Archives that a trusted but careless or hostile signer could sign.
#[test]
fn hostile_archives_are_refused() {
    let key = SigningKey::generate().unwrap();
    let manifest = content().manifest_text;
    let good = [("gw.toml", manifest.as_bytes()), ("models.json", b"[]")];
    let missing =
        format!("[{{\"name\":\"m\",\"digest\":\"{}\",\"bundled\":true}}]", Digest::of(b"absent"));
    let cases: Vec<(&str, Vec<File<'_>>)> = vec![
        ("missing", vec![("gw.toml", manifest.as_bytes())]),
        ("unexpected", [&good[..], &[("etc/passwd", b"x")]].concat()),
        ("unexpected", [&good[..], &[("assets/a/../../b", b"x")]].concat()),
        ("unexpected", [&good[..], &[("plugins/../x.wasm", b"x")]].concat()),
        ("two files", [&good[..], &[("assets/a", b"x"), ("assets/a", b"y")]].concat()),
        ("missing", vec![("gw.toml", manifest.as_bytes()), ("models.json", missing.as_bytes())]),
    ];
    for (expected, files) in cases {
        let mut tar = Vec::new();
        for (name, bytes) in files {
            // By hand: the builder refuses such names.
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_cksum();
            tar.extend_from_slice(header.as_bytes());
            tar.extend_from_slice(bytes);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.resize(tar.len() + 1024, 0);
        let signature = BASE64.encode(key.sign(&signed(&Digest::of(&tar))));
        let bundle = assemble(&tar, &key.public(), &signature);
        let error = verify(&bundle, &[key.public()]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

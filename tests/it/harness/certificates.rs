//! Certificates made for a test.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

/// Who signs them.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

/// The files of a certificate and of its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(dir: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = called(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = dir.join(format!("{name}.crt"));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    /// What those need who are to trust it.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Signs a certificate for these names, in files of this name.
    pub fn issue(&self, file: &str, names: &[&str]) -> Certificate {
        self.sign(file, names, |_params| {})
    }

    /// The same, but it is over.
    pub fn issue_expired(&self, file: &str, names: &[&str]) -> Certificate {
        self.sign(file, names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    fn sign(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = called(file);
        change(&mut params);
        let made = Certificate {
            certificate: self.file.with_file_name(format!("{file}.crt")),
            key: self.file.with_file_name(format!("{file}.key")),
        };
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(&made.certificate, signed.pem()).unwrap();
        std::fs::write(&made.key, key.serialize_pem()).unwrap();
        made
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut whole = DistinguishedName::new();
    whole.push(DnType::CommonName, name);
    whole
}

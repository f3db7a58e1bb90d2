//! `switchboard certs`: certificates for nodes that are being developed.

mod files;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use humantime_serde::re::humantime::format_rfc3339_seconds;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;
use switchboard_mesh::identity::{
    self,
    permissions::{GATEWAY, OPERATOR},
};

use super::show;
use crate::roles::Role;

/// What to do with certificates.
#[derive(Subcommand)]
pub(crate) enum CertsCommand {
    /// Make an authority for development and a certificate for each role
    ///
    /// For development and trials: the authority's key stays in the folder, and whoever reads it can be any
    /// node. In production, take certificates from your own authority; each has one URI as its name,
    /// spiffe://DOMAIN/role/ROLE, with further /ROLE for a process with several.
    ///
    /// An authority that is there is used again; certificates are made anew at each run, and nodes that use
    /// them take them up within seconds.
    Dev(DevArgs),
}

/// Flags of `certs dev`.
#[derive(Args)]
pub(crate) struct DevArgs {
    /// Folder for the files; made if missing
    #[arg(long, value_name = "DIR", default_value = "switchboard-certs")]
    out: PathBuf,
    /// Role to make a certificate for, or several with commas between for a process that has them all; may
    /// be repeated. Every role, the gateway and the operator without it
    #[arg(long = "role", value_name = "ROLE[,ROLE]", value_parser = roles)]
    roles: Vec<Roles>,
    /// Days that the certificates are valid
    #[arg(long, default_value_t = DAYS, value_parser = clap::value_parser!(u16).range(1..=825))]
    days: u16,
    /// SPIFFE trust domain; nodes have it as `identity.domain`
    #[arg(long, default_value_t = identity::Config::default().domain)]
    domain: String,
    /// Make a new authority even if there is one: certificates of the old one are not believed any more
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Roles of one certificate.
type Roles = Vec<String>;

/// Days that a certificate is valid.
const DAYS: u16 = 90;
/// Days that the authority is valid.
const AUTHORITY_DAYS: u64 = 3650;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long before now a certificate is valid: a node's clock may be an hour off, as where local time is taken
/// for UTC.
const SLACK: Duration = Duration::from_secs(2 * 60 * 60);

/// Everything that can have a certificate.
fn all() -> impl Iterator<Item = &'static str> {
    Role::ALL.into_iter().map(Role::name).chain([GATEWAY, OPERATOR])
}

fn roles(text: &str) -> Result<Roles, String> {
    let given: Roles = text.split(',').map(|role| role.trim().to_owned()).collect();
    match given.iter().find(|role| !all().any(|known| known == role.as_str())) {
        Some(unknown) => {
            Err(format!("there is no role {unknown:?}; there are {}", all().collect::<Vec<_>>().join(", ")))
        }
        None => Ok(given),
    }
}

pub(crate) fn certs(command: CertsCommand) -> Result<ExitCode> {
    match command {
        CertsCommand::Dev(args) => dev(args),
    }
}

/// A certificate that was made.
struct Made {
    roles: Roles,
    certificate: PathBuf,
    key: PathBuf,
    until: SystemTime,
}

fn dev(args: DevArgs) -> Result<ExitCode> {
    let config = identity::Config { domain: args.domain.clone(), ..identity::Config::default() };
    config.check()?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("--out: the folder {} cannot be made", args.out.display()))?;
    let authority = Authority::open(&args.out, args.force)?;
    let every = || all().map(|role| vec![role.to_owned()]).collect();
    let wanted: Vec<Roles> = if args.roles.is_empty() { every() } else { args.roles.clone() };
    let made = wanted.into_iter().map(|roles| authority.certify(roles, &args.domain, args.days));
    let made = made.collect::<Result<Vec<_>>>()?;
    if args.json {
        show::line(&as_json(&authority, &args.domain, &made).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let row = |made: &Made| {
        let (certificate, key) = (made.certificate.display().to_string(), made.key.display().to_string());
        vec![made.roles.join(", "), certificate, key, time(made.until)]
    };
    show::line(&show::table(
        &["role", "certificate", "key", "expires"],
        &made.iter().map(row).collect::<Vec<_>>(),
    ));
    let whose = if authority.made { "made" } else { "used again" };
    let path = authority.certificate.display();
    show::line(&format!(
        "authority: {path} ({whose}), until {}; for development only",
        time(authority.until)
    ));
    Ok(ExitCode::SUCCESS)
}

/// Makes certificates for every role, the gateway and the operator in `folder`, by its authority or a new one.
/// Returns the configuration of each.
///
/// # Errors
/// A file that cannot be written, or an authority that cannot be used.
pub(super) fn for_all(folder: &Path, domain: &str) -> Result<BTreeMap<String, identity::Config>> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let authority = Authority::open(folder, false)?;
    let each = all().map(|role| {
        let made = authority.certify(vec![role.to_owned()], domain, DAYS)?;
        let config = identity::Config {
            certificate: made.certificate,
            key: made.key,
            authorities: authority.certificate.clone(),
            domain: domain.to_owned(),
        };
        Ok((role.to_owned(), config))
    });
    each.collect()
}

/// The authority in a folder.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
    certificate: PathBuf,
    until: SystemTime,
    /// Just now.
    made: bool,
}

impl Authority {
    /// The authority that `folder` has, or a new one where it has none or `force` says so.
    fn open(folder: &Path, force: bool) -> Result<Self> {
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        let (folder, there) = (folder.to_owned(), [certificate.exists(), key.exists()]);
        if force || there == [false; 2] {
            let (issuer, until) = make(&certificate, &key)?;
            return Ok(Self { issuer, folder, certificate, until, made: true });
        }
        ensure!(
            there == [true; 2],
            "of {} and {} only one is there; --force makes both anew",
            certificate.display(),
            key.display()
        );
        let (certificate_pem, key_pem) = (files::read(&certificate)?, files::read(&key)?);
        let until = identity::expiry(certificate_pem.as_bytes())
            .with_context(|| format!("{} cannot be used", certificate.display()))?;
        ensure!(
            until > SystemTime::now() + DAY,
            "{} expires {}; --force makes a new authority",
            certificate.display(),
            time(until)
        );
        let pair =
            KeyPair::from_pem(&key_pem).with_context(|| format!("{} cannot be used", key.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, pair)
            .with_context(|| format!("{} cannot be used", certificate.display()))?;
        Ok(Self { issuer, folder, certificate, until, made: false })
    }

    /// Makes a certificate for `roles`, in place of one that is there.
    fn certify(&self, roles: Roles, domain: &str, days: u16) -> Result<Made> {
        let name = roles.join("-");
        let now = SystemTime::now();
        let until = (now + DAY * u32::from(days)).min(self.until);
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = ((now - SLACK).into(), until.into());
        params.distinguished_name = named(&name);
        let id = format!("spiffe://{domain}/role/{}", roles.join("/"));
        params.subject_alt_names = vec![
            SanType::URI(id.try_into()?),
            // For tools that look for a host's name; nodes do not.
            SanType::DnsName("localhost".try_into()?),
            SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
            SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let pair = KeyPair::generate()?;
        let signed = params.signed_by(&pair, &self.issuer)?;
        let at = |end: &str| self.folder.join(format!("{name}.{end}"));
        let (certificate, key) = (at("pem"), at("key"));
        files::write_secret(&key, &pair.serialize_pem())?;
        files::write(&certificate, &signed.pem())?;
        // As a node will: what it would refuse shall be told here.
        let config = identity::Config {
            certificate: certificate.clone(),
            key: key.clone(),
            authorities: self.certificate.clone(),
            domain: domain.to_owned(),
        };
        identity::Identity::load(&config)?;
        Ok(Made { roles, certificate, key, until })
    }
}

fn make(certificate: &Path, key: &Path) -> Result<(Issuer<'static, KeyPair>, SystemTime)> {
    let now = SystemTime::now();
    let until = now + Duration::from_secs(AUTHORITY_DAYS * DAY.as_secs());
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = ((now - SLACK).into(), until.into());
    params.distinguished_name = named("Switchboard development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pair = KeyPair::generate()?;
    let signed = params.self_signed(&pair)?;
    files::write_secret(key, &pair.serialize_pem())?;
    files::write(certificate, &signed.pem())?;
    Ok((Issuer::new(params, pair), until))
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn as_json(authority: &Authority, domain: &str, made: &[Made]) -> serde_json::Value {
    let each = made.iter().map(|made| {
        json!({
            "roles": made.roles, "certificate": made.certificate.display().to_string(),
            "key": made.key.display().to_string(),
            "expires_at": time(made.until),
        })
    });
    json!({
        "authorities": authority.certificate.display().to_string(), "authority_made": authority.made, "domain": domain,
        "authority_expires_at": time(authority.until), "certificates": each.collect::<Vec<_>>(),
    })
}

fn time(at: SystemTime) -> String {
    format_rfc3339_seconds(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_clock_is_an_hour_behind_believes_what_was_just_made() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), false).unwrap();
        let made = authority.certify(vec!["policy".into()], "switchboard", 1).unwrap();
        let behind = SystemTime::now() - Duration::from_secs(3600);
        let behind = behind.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        for path in [&authority.certificate, &made.certificate] {
            let text = std::fs::read(path).unwrap();
            let (_, pem) = x509_parser::pem::parse_x509_pem(&text).unwrap();
            let from = pem.parse_x509().unwrap().validity().not_before.timestamp();
            assert!(from < i64::try_from(behind).unwrap(), "{}", path.display());
        }
    }
}

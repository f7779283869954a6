//! What Spin's command line does with this crate: push layers and a config in pieces, pull them back.
//!
//!     oci-client push REFERENCE CONFIG LAYER...
//!     oci-client pull REFERENCE DIRECTORY    writes DIRECTORY/config, and layers by digest
//!     oci-client tags REFERENCE
//!
//! Signs in with OCI_USER and OCI_PASSWORD, if they are set.

use std::error::Error;
use std::{env, fs, path::Path};

use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

const CONFIG: &str = "application/vnd.fermyon.spin.application.v1+config";
const LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [verb, reference, rest @ ..] = words.as_slice() else {
        return Err("push, pull or tags, and a reference".into());
    };
    let reference: Reference = reference.parse()?;
    let auth = match (env::var("OCI_USER"), env::var("OCI_PASSWORD")) {
        (Ok(user), Ok(password)) => RegistryAuth::Basic(user, password),
        _ => RegistryAuth::Anonymous,
    };
    let client = Client::new(ClientConfig {
        protocol: ClientProtocol::Http,
        ..Default::default()
    });
    match (verb.as_str(), rest) {
        ("push", [config, layers @ ..]) => {
            let config = Config::new(fs::read(config)?, CONFIG.into(), None);
            let layers = layers
                .iter()
                .map(|path| Ok(ImageLayer::new(fs::read(path)?, LAYER.into(), None)))
                .collect::<std::io::Result<Vec<_>>>()?;
            let pushed = client.push(&reference, &layers, config, &auth, None).await?;
            println!("{}", pushed.manifest_url);
        }
        ("pull", [directory]) => {
            let image = client.pull(&reference, &auth, vec![LAYER]).await?;
            let directory = Path::new(directory);
            fs::create_dir_all(directory)?;
            fs::write(directory.join("config"), &image.config.data)?;
            // Not by number: the crate hands layers over as they arrive.
            for layer in &image.layers {
                fs::write(directory.join(layer.sha256_digest()), &layer.data)?;
            }
            println!("{}", image.digest.unwrap_or_default());
        }
        ("tags", []) => {
            for tag in client.list_tags(&reference, &auth, None, None).await?.tags {
                println!("{tag}");
            }
        }
        _ => return Err("push, pull or tags, and a reference".into()),
    }
    Ok(())
}

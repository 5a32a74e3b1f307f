import { strict as assert } from "node:assert";
import { mkdtempSync, readlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { nkeys } from "@nats-io/nats-core";
import { connectTo } from "../../src/bus/connection.ts";
import { readSettings, secretsOf } from "../../src/settings.ts";
import { endAll, freePort, Program, reached } from "../lab/process.ts";
import { Voicebus } from "../lab/voicebus.ts";

const TLS = join(import.meta.dirname, "../fixtures/tls");
const file = (name: string) => join(TLS, name);

test("certificates and an NKey open a server that wants both, and nothing is told to one without", async () => {
  const dir = mkdtempSync(join(tmpdir(), "voicebus-network-"));
  try {
    // Its nats-server is the one that is known to work.
    const voicebus = await Voicebus.start(join(dir, "voicebus"));
    const pair = nkeys.createUser();
    const seed = join(dir, "plugin.nk");
    writeFileSync(seed, `${new TextDecoder().decode(pair.getSeed())}\n${pair.getPublicKey()}\n`);
    const port = await freePort();
    const config = join(dir, "nats.conf");
    writeFileSync(
      config,
      `listen: "127.0.0.1:${port}"
       tls { cert_file: "${file("server.pem")}", key_file: "${file("server.key")}",
             ca_file: "${file("ca.pem")}", verify: true }
       authorization { users: [ { nkey: ${pair.getPublicKey()} } ] }`,
    );
    const server = readlinkSync(`/proc/${voicebus.natsPid}/exe`);
    new Program(server, ["-c", config], join(dir, "nats.log"));

    const url = `tls://localhost:${port}`;
    const ours = { certFile: file("client.pem"), keyFile: file("client.key"), nkeyFile: seed };
    const open = async (nats: object) => {
      const settings = readSettings({ nats: { url, ...nats } }, {}).nats;
      const connection = await connectTo(settings, secretsOf(settings, {}));
      await connection.flush();
      await connection.close();
      return true;
    };
    await reached("we get in", async () => await open({ ...ours, caFile: file("ca.pem") }));
    await assert.rejects(
      open({ ...ours, caFile: file("other-ca.pem") }),
      /do not trust each other/,
    );
    await assert.rejects(
      open({ nkeyFile: seed, caFile: file("ca.pem") }),
      /NATS at tls:\/\/localhost/,
    );
    await assert.rejects(open({ certFile: file("client.pem") }), /need each other/);
    const plain = { url: voicebus.nats.replace("nats://", "tls://"), user: "plugin" };
    await assert.rejects(
      open({ ...plain, passwordFile: voicebus.credentials }),
      /do not trust each other \(server does not support 'tls'\)/,
    );
    const stranger = join(dir, "stranger.nk");
    writeFileSync(stranger, new TextDecoder().decode(nkeys.createUser().getSeed()));
    await assert.rejects(
      open({ ...ours, caFile: file("ca.pem"), nkeyFile: stranger }),
      /does not know the user "plugin" with this password or key/,
    );
  } finally {
    await endAll();
  }
});

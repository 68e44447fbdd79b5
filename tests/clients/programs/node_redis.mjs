// node's `redis`: AI commands with sendCommand, alone and in MULTI. Prints one line of JSON for each check.
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [, , folder, told] = process.argv;
const server = JSON.parse(told);
const { createClient, RESP_TYPES } = createRequire(`${folder}/package.json`)("redis");

const floats = (...numbers) => Buffer.from(new Float32Array(numbers).buffer);

function connect() {
  const client = createClient({ socket: { host: server.host, port: server.port }, RESP: server.protocol });
  client.on("error", () => {});
  return client.connect();
}

async function storeModel(client) {
  const blob = readFileSync(server.models.ONNX.file);
  assert.equal(await client.sendCommand(["AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", blob]), "OK");
}

function prediction(a, b) {
  const set = (name, x) => ["|>", "AI.TENSORSET", name, "FLOAT", "1", "1", "BLOB", floats(x)];
  const run = ["|>", "AI.MODELEXECUTE", "m", "INPUTS", "2", "a", "b", "OUTPUTS", "2", "p", "s"];
  return ["AI.DAGEXECUTE_RO", "ROUTING", "m", ...set("a", a), ...set("b", b), ...run, "|>", "AI.TENSORGET", "s", "VALUES"];
}

const checks = {
  async tensor(client) {
    assert.equal(await client.sendCommand(["AI.TENSORSET", "x", "FLOAT", "2", "VALUES", "1.5", "2"]), "OK");
    assert.deepEqual(await client.sendCommand(["AI.TENSORGET", "x", "META"]), ["dtype", "FLOAT", "shape", [2]]);
    const binary = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };
    assert.deepEqual(await client.sendCommand(["AI.TENSORGET", "x", "BLOB"], binary), floats(1.5, 2));
  },

  async prediction(client) {
    await storeModel(client);
    assert.deepEqual(await client.sendCommand(prediction(2, 3)), ["OK", "OK", "OK", ["5"]]);
  },

  async many_at_once(client) {
    await storeModel(client);
    const replies = await Promise.all([...Array(50).keys()].flatMap((n) => [
      client.sendCommand(prediction(n, 1)), client.set(`k${n}`, n), client.get(`k${n}`)]));
    for (let n = 0; n < 50; n++) {
      assert.deepEqual(replies[3 * n][3], [String(n + 1)]);
      assert.equal(replies[3 * n + 2], String(n));
    }
  },

  async transaction(client) {
    const replies = await client.multi()
      .addCommand(["AI.TENSORSET", "x", "INT64", "1", "VALUES", "7"])
      .addCommand(["AI.TENSORGET", "x", "VALUES"])
      .incr("n")
      .exec();
    assert.deepEqual(replies, ["OK", [7], 1]);
  },

  async error(client) {
    await assert.rejects(client.sendCommand(["AI.MODELGET", "absent"]), /model key is empty/);
    assert.equal(await client.ping(), "PONG");
  },

  async publish_and_subscribe(client) {
    const subscriber = await connect();
    let got;
    const message = new Promise((resolve) => { got = resolve; });
    await subscriber.subscribe("news", (text) => got(text));
    await client.publish("news", "first");
    assert.equal(await message, "first");
    await subscriber.unsubscribe("news");
    subscriber.destroy();
  },
};

const client = await connect();
for (const [check, run] of Object.entries(checks)) {
  let failure = "";
  try {
    await client.flushAll();
    await run(client);
  } catch (error) {
    failure = error.stack;
  }
  console.log(JSON.stringify({ check, failure, skipped: "" }));
}
client.destroy();

// A worker of Powertools for AWS Lambda (TypeScript): reads calls as JSON lines, answers as JSON lines.
//
// Its hashes are the same digests as the Python workers', but written in base64 where theirs are hexadecimal, so
// that its keys never equal theirs. `metBy` writes them in hexadecimal too, so that keys of strings and whole numbers
// are the same; all else is the package's own. With `ownKeys` in the store, even that stays as it is.
// See worker.py for what the lines say; it is imported from where node_modules are: argv is module root, name, ledger.

import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [root, name, ledger] = process.argv.slice(2);
const require = createRequire(`${root}/package.json`);
const load = (module) => import(pathToFileURL(require.resolve(module)));

const { IdempotencyConfig, makeIdempotent } = await load("@aws-lambda-powertools/idempotency");

const PREFIX = "fleet";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const nextLine = async () => (await lines.next()).value;
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

const metBy = (Layer) =>
  class extends Layer {
    generateHash(data) {
      return Buffer.from(super.generateHash(data), "base64").toString("hex");
    }
  };

const clients = new Map();

const cacheClient = async ({ host, port }) => {
  const { createClient } = await load("@redis/client");
  return createClient({ socket: { host, port } }).connect();
};

const dynamodbClient = async ({ endpoint }) => {
  const { DynamoDBClient } = await load("@aws-sdk/client-dynamodb");
  const credentials = { accessKeyId: "test", secretAccessKey: "test" };
  return new DynamoDBClient({ endpoint, region: "eu-central-1", credentials });
};

const clientOf = async (store, make) => {
  const id = JSON.stringify(store);
  if (!clients.has(id)) clients.set(id, await make(store));
  return clients.get(id);
};

const camelCased = (options) =>
  Object.fromEntries(
    Object.entries(options).map(([name, value]) => [name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase()), value]),
  );

// A layer of its own for each call, since a layer keeps the config of the first function that it meets.
const layerOf = async ({ ownKeys, ...store }) => {
  const own = ownKeys ? (Layer) => Layer : metBy;
  if (store.kind === "cache") {
    const { CachePersistenceLayer } = await load("@aws-lambda-powertools/idempotency/cache");
    return new (own(CachePersistenceLayer))({ client: await clientOf(store, cacheClient) });
  }
  const { DynamoDBPersistenceLayer } = await load("@aws-lambda-powertools/idempotency/dynamodb");
  const awsSdkV3Client = await clientOf(store, dynamodbClient);
  return new (own(DynamoDBPersistenceLayer))({ tableName: store.table, awsSdkV3Client, ...camelCased(store.arguments) });
};

const run = async (key, body) => {
  appendFileSync(ledger, `${JSON.stringify({ key, by: name })}\n`);
  if (body.do === "wait") {
    tell({ running: true });
    const { raises } = JSON.parse(await nextLine());
    if (raises) throw new Error(raises);
  } else if (body.do === "die") {
    process.kill(process.pid, "SIGKILL");
    await new Promise(() => setInterval(() => {}, 1000));
  } else if (body.do === "raise") {
    throw new Error(body.returns);
  }
  return body.do === "nothing" ? undefined : body.returns;
};

const call = async (request) => {
  const config = new IdempotencyConfig({
    eventKeyJmesPath: "id",
    payloadValidationJmesPath: request.validate ? "amount" : undefined,
    expiresAfterSeconds: request.window,
  });
  if (request.remaining_ms !== null) {
    config.registerLambdaContext({ getRemainingTimeInMillis: () => request.remaining_ms });
  }
  const charge = makeIdempotent((order) => run(order.id, request.body), {
    persistenceStore: await layerOf(request.store),
    config,
    keyPrefix: PREFIX,
  });
  return charge(request.payload);
};

for (let line = await nextLine(); line !== undefined; line = await nextLine()) {
  try {
    const answer = await call(JSON.parse(line));
    tell({ answer: answer === undefined ? null : answer });
  } catch (error) {
    tell({ error: error.name, text: `${error.stack}\n${error.cause?.stack ?? ""}`, response: null });
  }
}
process.exit(0);

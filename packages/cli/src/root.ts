/**
 * The command `effect-kv` without its subcommands: the flags that all of them share. A subcommand reads them with
 * `yield* root`.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as durationFlag from "./durationFlag.ts"

/** A flag for which a variable of the environment can stand. `connection.ts` reads that one. */
const setting = (name: string, metavar: string, variable: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar(metavar),
    Flag.withDescription(`${description} (${variable})`),
    Flag.optional
  )

/** The services that a handler has which reads the shared flags. */
export type Root = Command.CommandContext<"effect-kv">

export const root = Command.make("effect-kv").pipe(
  Command.withDescription("Locks, elections, members and keys in etcd or Postgres"),
  Command.withSharedFlags({
    url: setting("url", "URL", "KV_URL", "The store: http(s)://[user:password@]host:port[,host:port...], or postgres:"),
    prefix: setting("prefix", "PREFIX", "KV_PREFIX", "Confines the command to the keys with this prefix"),
    schema: setting("schema", "NAME", "KV_SCHEMA", "The schema of the store in Postgres; default: effect_kv"),
    user: setting("user", "NAME", "ETCD_USER", "The user; the password is in ETCD_PASSWORD"),
    ca: setting("ca", "FILE", "ETCD_CA_FILE", "PEM file of the authorities that verify servers"),
    cert: setting("cert", "FILE", "ETCD_CERT_FILE", "PEM file of the client's certificate"),
    key: setting("key", "FILE", "ETCD_KEY_FILE", "PEM file of its key"),
    serverName: setting("server-name", "NAME", "ETCD_SERVER_NAME", "The name to expect in servers' certificates"),
    insecure: Flag.Boolean("insecure-skip-verify").pipe(
      Flag.withDescription("Verifies neither certificates nor names of servers"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    timeout: durationFlag.make("timeout").pipe(
      Flag.withDescription("How long one request may take (KV_TIMEOUT); default: 5s"),
      Flag.optional
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Writes results, and errors, as JSON"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    )
  })
)

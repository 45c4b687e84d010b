/**
 * The store that a command works on, from its flags and the environment. A flag takes precedence over its variable.
 *
 * `EtcdClient` is not provided: the etcd3 package reads files of its own, which a bundled program does not have.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as KvUrl from "@effect-kv/core/KvUrl"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as MemoryLayer from "@effect-kv/memory/MemoryLayer"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as durationFlag from "./durationFlag.ts"
import { ConfigurationError } from "./exitCodes.ts"
import * as output from "./output.ts"
import { type Root, root } from "./root.ts"

/** What was given, by flags or variables, before anything is opened. */
export interface Settings {
  /** The URL of the store, which may hold a password: print `shown` instead. */
  readonly url: string
  /** The URL without user and password. */
  readonly shown: string
  readonly prefix: string
  /** The schema of a store in Postgres; `undefined`: the default. */
  readonly schema: string | undefined
  /** The options for etcd. Of these, Postgres uses the deadline only: the rest is in its URL. */
  readonly options: Omit<EtcdLayer.Options, "endpoints" | "prefix">
}

/** How long one request may take unless `--timeout` says otherwise. */
export const defaultTimeout: Duration.Duration = Duration.seconds(5)

/** The settings of the command. Fails with `ConfigurationError` if one is missing or wrong. */
export const settings: Effect.Effect<Settings, ConfigurationError | Config.ConfigError, Root> = Effect.gen(function*() {
  const flags = yield* root
  const url = yield* given(flags.url, "KV_URL")
  if (url === undefined) return yield* new ConfigurationError({ message: noStore })
  if (isPostgres(url)) return yield* ofPostgres(url, flags)
  if (Option.isSome(flags.schema)) {
    return yield* new ConfigurationError({ message: "--schema is for Postgres; other stores are divided by --prefix" })
  }
  const username = yield* given(flags.user, "ETCD_USER")
  const password = yield* Config.option(Config.Redacted("ETCD_PASSWORD"))
  if (username !== undefined && Option.isNone(password)) {
    return yield* new ConfigurationError({
      message: `the user ${JSON.stringify(username)} is given without a password: set ETCD_PASSWORD`
    })
  }
  const files = {
    ca: yield* given(flags.ca, "ETCD_CA_FILE"),
    certificate: yield* given(flags.cert, "ETCD_CERT_FILE"),
    key: yield* given(flags.key, "ETCD_KEY_FILE")
  }
  const tls = {
    files,
    serverName: yield* given(flags.serverName, "ETCD_SERVER_NAME"),
    insecureSkipVerify: flags.insecure
  }
  const hasTls = flags.insecure || tls.serverName !== undefined ||
    Object.values(files).some((file) => file !== undefined)
  return {
    url,
    shown: withoutUser(url),
    prefix: (yield* given(flags.prefix, "KV_PREFIX")) ?? "",
    schema: undefined,
    options: {
      deadline: yield* timeoutOf(flags.timeout),
      ...(hasTls ? { tls } : {}),
      ...(username === undefined || Option.isNone(password) ? {} : { auth: { username, password: password.value } })
    }
  }
})

export const isPostgres = (url: string): boolean => /^postgres(ql)?:/i.test(url)

const ofPostgres = Effect.fnUntraced(function*(url: string, flags: Effect.Success<typeof root>) {
  const { ca, cert, key, serverName, user } = flags
  const etcd = { user, ca, cert, key, "server-name": serverName }
  const [name] = [
    ...Object.entries(etcd).flatMap(([name, flag]) => Option.isSome(flag) ? [name] : []),
    ...(flags.insecure ? ["insecure-skip-verify"] : [])
  ]
  if (name !== undefined) {
    return yield* new ConfigurationError({
      message: `--${name} is for etcd. For Postgres, give user and TLS in the URL: ` +
        "postgres://user:password@host:port/database?sslmode=require; name authorities in NODE_EXTRA_CA_CERTS"
    })
  }
  return {
    url,
    shown: withoutUser(url),
    prefix: (yield* given(flags.prefix, "KV_PREFIX")) ?? "",
    schema: yield* given(flags.schema, "KV_SCHEMA"),
    options: { deadline: yield* timeoutOf(flags.timeout) }
  }
})

/**
 * A URL without user and password. It may be malformed, for example by a `/` in the password. One of Postgres may have
 * them as parameters.
 */
export const withoutUser = (url: string): string =>
  url.replace(/^([a-z][a-z\d+.-]*:\/\/)?.*@/is, "$1").replace(/([?&](?:user|password)=)[^&#]*/gi, "$1...")

/** Arguments without the user and the password in `--url`. */
export const withoutPassword = (args: ReadonlyArray<string>): ReadonlyArray<string> => {
  const own = output.withoutCommand(args)
  return args.map((argument, index) => {
    if (index >= own.length) return argument
    if (argument.startsWith("--url=")) return `--url=${withoutUser(argument.slice("--url=".length))}`
    return args[index - 1] === "--url" ? withoutUser(argument) : argument
  })
}

const noStore = "no store is named: give --url or set KV_URL, for example KV_URL=http://127.0.0.1:2379"

/** The flag, or else its variable. An empty variable counts as none. */
const given = (flag: Option.Option<string>, variable: string) =>
  Option.isSome(flag) ? Effect.succeed(flag.value) : Effect.map(
    Config.option(Config.String(variable)),
    (value) => Option.getOrUndefined(Option.filter(value, (text) => text !== ""))
  )

const timeoutOf = Effect.fnUntraced(function*(flag: Option.Option<Duration.Duration>) {
  if (Option.isSome(flag)) return flag.value
  const text = yield* given(Option.none(), "KV_TIMEOUT")
  if (text === undefined) return defaultTimeout
  return yield* Effect.fromOption(durationFlag.parse(text)).pipe(
    Effect.mapError(() =>
      new ConfigurationError({
        message: `KV_TIMEOUT must be a duration such as 500ms or 10s, not ${JSON.stringify(text)}`
      })
    )
  )
})

/** Opens the store of given settings. */
export const open = (given: Settings, mode: Mode = "Creating"): Layer.Layer<Kv.Kv, ConfigurationError> => {
  const etcd: KvUrl.Open = (url) => EtcdLayer.fromUrl(url, { ...given.options, prefix: given.prefix })
  const postgres: KvUrl.Open = (url) => onPostgres(given, url, mode)
  return KvUrl.layer(given.url, { mem: memory(given), http: etcd, https: etcd, postgres, postgresql: postgres }).pipe(
    Layer.catch(asConfiguration)
  )
}

/**
 * Whether a command creates the schema of a store in Postgres, and upgrades an older one, as a program does. A command
 * that only reads or removes keys must not: it would hide a wrong name, and change the store of programs that run.
 */
export type Mode = "Creating" | "Existing"

/** The code for Postgres is loaded only if it is needed: other commands start without it. */
const onPostgres = ({ options: { deadline }, prefix, schema }: Settings, url: string, mode: Mode) =>
  Layer.unwrap(Effect.map(
    Effect.promise(() => import("@effect-kv/postgres/PostgresLayer")),
    (PostgresLayer) => PostgresLayer.fromUrl(url, { deadline, prefix, schema, migrate: mode === "Creating" })
  ))

const memory = ({ prefix }: Settings): KvUrl.Open => (url) =>
  prefix === "" ? MemoryLayer.fromUrl(url) : Layer.provide(Kv.layerPrefixed(prefix), MemoryLayer.fromUrl(url))

/** A layer is built without a request, so its errors are about what was given. */
const asConfiguration = ({ reason: { message } }: KvError.KvError): Layer.Layer<Kv.Kv, ConfigurationError> =>
  Layer.effect(Kv.Kv, Effect.fail(new ConfigurationError({ message })))

/** A failure that the database's name or the schema explains becomes `ConfigurationError`, with what to do. */
export const explained = (given: Settings) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  isPostgres(given.url)
    ? Effect.tapError(effect, (error) => isOfSchema(error) ? failWithSchema(given) : Effect.void)
    : effect

const isOfSchema = (error: unknown): boolean =>
  KvError.isKvError(error) && (error.reason._tag === "InvalidRequest" || error.reason._tag === "PermissionDenied")

const failWithSchema = Effect.fnUntraced(function*(given: Settings) {
  const postgres = yield* Effect.promise(() => import("./doctor/postgres.ts"))
  const message = yield* postgres.misconfiguration(given)
  if (message !== undefined) return yield* new ConfigurationError({ message })
})

const on = (mode: Mode) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(settings, (given) => explained(given)(Effect.provide(effect, open(given, mode))))

/** Runs a command that writes on the store that the flags and the environment name. */
export const onStore = on("Creating")

/** Runs a command that only reads or removes keys on the store that the flags and the environment name. */
export const onExistingStore = on("Existing")

/**
 * Command-line options of a run.
 */
import { EtcdBinaries } from "@effect-kv/test-suite/verification"
import { parseArgs } from "node:util"
import type { Backend, Kind } from "./Fault.ts"
import { kindsOf } from "./Fault.ts"
import { fewest } from "./Growth.ts"

export interface Options {
  readonly backend: Backend
  readonly seconds: number
  readonly seed: number
  /** Of etcd. */
  readonly version: EtcdBinaries.Version
  readonly batching: boolean
  readonly faults: ReadonlyArray<Kind>
  /** Outages of all servers instead of other faults, in seconds. */
  readonly outages: ReadonlyArray<number>
  readonly soak: boolean
  /** The folder of a saved round to check again. */
  readonly check: string | undefined
}

export const usage = `npm run chaos -- [options]
  --backend etcd|postgres
                       three servers of etcd, or one of Postgres; etcd
  --seconds N          how long the load lasts; 120, with --soak 900
  --seed N             which faults there are and what clients do; 1
  --version ${EtcdBinaries.versions.join("|")}
                       of etcd; ${EtcdBinaries.versions[0]}
  --batching on|off     whether concurrent operations are batched into transactions; on
  --faults all|none|KIND,...
                       on etcd ${kindsOf.etcd.join(", ")};
                       on Postgres ${kindsOf.postgres.join(", ")}
  --outage N,...       outages of all servers of so many seconds, instead of other faults
  --soak               a fault every 20 seconds, and memory measurements in between
  --check FOLDER       check a saved round again, instead of running a new one`

/** One day, and the shortest soak whose rounds of a minute can show growth, in seconds. */
const longest = 86_400
const shortestSoak = 60 * fewest

/** The options, or what is wrong with them. */
export const parse = (args: ReadonlyArray<string>): Options | string => {
  const parsed = parseOrProblem(args)
  if (typeof parsed === "string") return parsed
  const seconds = Number(parsed.seconds ?? (parsed.soak === true ? "900" : "120"))
  const seed = Number(parsed.seed ?? "1")
  const version = EtcdBinaries.versions.find((version) => version === (parsed.version ?? EtcdBinaries.versions[0]))
  const batching = parsed.batching ?? "on"
  const outages = parsed.outage === undefined ? [] : parsed.outage.split(",").map(Number)
  const backend = backends.find((backend) => backend === (parsed.backend ?? "etcd"))
  if (backend === undefined) return `--backend must be ${backends.join(" or ")}`
  if (backend !== "etcd" && parsed.version !== undefined) return "--version is that of etcd"
  const faults = chosenOf(backend, parsed.faults ?? "all")
  if (!(seconds >= 10 && seconds <= longest)) return `--seconds must be from 10 to ${longest}`
  if (parsed.soak === true && seconds < shortestSoak) {
    return `--soak takes --seconds ${shortestSoak} or more: growth is measured over several rounds of a minute`
  }
  const isOutage = parsed.outage !== undefined
  if (isOutage && (parsed.soak === true || parsed.faults !== undefined || parsed.seconds !== undefined)) {
    return "--outage sets the faults and the duration, so it cannot be combined with --faults, --seconds or --soak"
  }
  if (!Number.isInteger(seed)) return "--seed must be an integer"
  if (version === undefined) return `--version must be one of ${EtcdBinaries.versions.join(", ")}`
  if (batching !== "on" && batching !== "off") return "--batching must be on or off"
  if (typeof faults === "string") return faults
  if (outages.some((seconds) => !(seconds > 0 && seconds <= longest))) {
    return "--outage must be a list of seconds, such as 5 or 5,30"
  }
  return {
    backend,
    seconds,
    seed,
    version,
    batching: batching === "on",
    faults,
    outages,
    soak: parsed.soak === true,
    check: parsed.check
  }
}

const parseOrProblem = (args: ReadonlyArray<string>) => {
  try {
    return parseArgs({
      args: [...args],
      options: {
        backend: { type: "string" },
        seconds: { type: "string" },
        seed: { type: "string" },
        version: { type: "string" },
        batching: { type: "string" },
        faults: { type: "string" },
        check: { type: "string" },
        outage: { type: "string" },
        soak: { type: "boolean" }
      }
    }).values
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

const backends = ["etcd", "postgres"] as const

const chosenOf = (backend: Backend, names: string): ReadonlyArray<Kind> | string => {
  const kinds = kindsOf[backend]
  if (names === "all") return kinds
  if (names === "none") return []
  const chosen = names.split(",")
  const isKind = (name: string): name is Kind => (kinds as ReadonlyArray<string>).includes(name)
  const wrong = chosen.find((name) => !isKind(name))
  return wrong === undefined
    ? chosen.filter(isKind)
    : `--faults must be all, none, or a list of the kinds of the backend below: there is no "${wrong}"`
}

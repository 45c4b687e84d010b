/**
 * What findings about locks say on etcd.
 */
import { ok, problem } from "./finding.ts"
import { folder, type Terms } from "./locking.ts"

/** What was configured, as far as advice depends on it. */
export interface Configured {
  /** The user of a password; `undefined` for none. */
  readonly username: string | undefined
  readonly prefix: string
}

export const terms = (configured: Configured): Terms => ({
  readable: ok("quorum", "the cluster has a quorum: a linearizable read succeeds"),
  failed: failed(configured),
  slowness: "slow disks of the members (etcd's wal_fsync_duration) and for a slow network"
})

const failed = ({ prefix, username }: Configured): Terms["failed"] => (step, error, where) => {
  const user = username === undefined ? "the client's certificate" : `the user ${JSON.stringify(username)}`
  switch (error._tag === "KvError" ? error.reason._tag : error._tag) {
    case "Unauthenticated":
      return username === undefined
        ? problem(
          "credentials-missing",
          "the cluster demands authentication, and no user is given",
          "Give --user NAME (ETCD_USER) and set ETCD_PASSWORD."
        )
        : problem(
          "credentials-wrong",
          `the cluster rejects ${user} or its password`,
          "Correct ETCD_USER and ETCD_PASSWORD. An administrator sees the users with 'etcdctl user list'."
        )
    case "PermissionDenied":
      return problem(
        "permission-denied",
        `${user} may not ${step} ${where}, which locks need`,
        `Confine the command to keys that the user may use with --prefix, or grant the role the permission: ` +
          `etcdctl role grant-permission ROLE readwrite ${JSON.stringify(`${prefix}${folder}/`)} --prefix=true`
      )
    case "QuotaExceeded":
      return problem("quota-exceeded", "the cluster rejects writes: its database is full", "See the alarm NOSPACE.")
    case "Unavailable":
    case "DeadlineExceeded":
    case "Indeterminate":
      return problem(
        "no-quorum",
        `a member responds, but the cluster does not: to ${step} failed with: ${error.message}`,
        "A majority of the members must run and reach each other. Start those that are down."
      )
    default:
      return problem("failed", `to ${step} ${where} failed: ${error.message}`, "The message is the store's.")
  }
}

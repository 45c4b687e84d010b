/**
 * Errors of an etcd cluster under test.
 */
import * as Data from "effect/Data"
import type { GuardianError } from "./Guardian.ts"

/**
 * An operation on the cluster failed. The message ends with the output of the server or of `etcdctl`.
 *
 * @since 0.1.0
 */
export class EtcdClusterError extends Data.TaggedError("EtcdClusterError")<{
  readonly operation: string
  readonly message: string
  readonly cause?: unknown
}> {}

export const failure = (operation: string, message: string): EtcdClusterError =>
  new EtcdClusterError({ operation, message })

export const fromGuardian = (operation: string) => (error: GuardianError): EtcdClusterError =>
  new EtcdClusterError({ operation, message: error.message, cause: error.cause })

/**
 * The interface of a gRPC transport: unary calls and duplex streams, in bytes, to one endpoint.
 *
 * A `Channel` is one endpoint and its connection. It knows nothing about services: messages are bytes, and a
 * method is a path. It never retries a request. Each failure says whether the server can have processed the request, so
 * that the caller can decide about a retry.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Target } from "./target.ts"

/**
 * The delivery of a request, as far as it is known.
 *
 * - `NotSent`: the request never left this process.
 * - `NotProcessed`: the request was sent, and the server stated that it did not process it (`REFUSED_STREAM`, or a
 *   stream id above the last one of a GOAWAY).
 * - `Sent`: the request was sent, and the server may have processed it.
 */
export type Delivery = "NotSent" | "NotProcessed" | "Sent"

/**
 * The delivery of one request, updated as the call proceeds. Pass your own object to see the delivery of an interrupted
 * call.
 */
export interface Progress {
  delivery: Delivery
}

/** A call that did not end with status `OK`. */
export interface Failure {
  readonly _tag: "GrpcFailure"
  /** A gRPC status code: see `status.ts`. */
  readonly code: number
  /** The server's message, or the problem on this side. */
  readonly details: string
  readonly delivery: Delivery
  /** The size of the response in bytes, if it was larger than `maxMessageSize`. */
  readonly messageSize?: number | undefined
  /** Waits for the response to a call that is late but continues: see `CallOptions.lateAfter`. */
  readonly pending?: Effect.Effect<Buffer, Failure> | undefined
}

export interface CallOptions {
  /** Request headers. Names are lower-case; values are printable ASCII. */
  readonly metadata?: Readonly<Record<string, string>> | undefined
  /** Names in `metadata` that HTTP/2 must never index, such as the name of a token. */
  readonly sensitive?: ReadonlyArray<string> | undefined
  /** Milliseconds from now until the call fails with `DEADLINE_EXCEEDED`. Sent to the server as `grpc-timeout`. */
  readonly timeout?: number | undefined
  /**
   * Milliseconds from now until a unary call without a response fails with `DEADLINE_EXCEEDED` and `pending`. The call
   * itself continues until its `timeout`, and interrupting `pending` cancels it. Less than `timeout`.
   */
  readonly lateAfter?: number | undefined
  /**
   * Milliseconds from now until a request that still waits for a connection, or for room within the server's limit on
   * streams, fails with `DEADLINE_EXCEEDED`. It does not limit a request that was sent. For streams, instead of
   * `timeout`.
   */
  readonly sendTimeout?: number | undefined
  /** The largest message to accept, in bytes. Default: the channel's limit. */
  readonly maxMessageSize?: number | undefined
  readonly progress?: Progress | undefined
  /**
   * Called immediately before the request is sent. If it returns true, the call fails as not sent, with `CANCELLED`.
   */
  readonly isCancelled?: (() => boolean) | undefined
  /**
   * Whether the caller may send the request again. The call then fails with `UNAVAILABLE` as soon as another connection
   * has replaced its silent connection. Other calls get some more time on the old connection.
   */
  readonly isRepeatable?: boolean | undefined
  /**
   * Keeps the request open until the response has arrived, and takes the first message as the response. For a unary
   * call of a bidirectional method whose server (or proxy) stops when the client has ended its side.
   */
  readonly endAfterResponse?: boolean | undefined
}

/** What to make of the outcome of a unary call. The functions must not throw. */
export interface OnOutcome<out A, out E> {
  readonly onSuccess: (response: Buffer) => Effect.Effect<A, E>
  readonly onFailure: (failure: Failure) => Effect.Effect<A, E>
}

/** The receiver of a stream's messages. Its functions must not throw. */
export interface StreamListener {
  /** One message. It may share memory with other messages: copy any part that outlives this function. */
  readonly onMessage: (message: Buffer) => void
  /** The end, exactly once unless the stream is cancelled: `undefined` for status `OK`. */
  readonly onEnd: (failure: Failure | undefined) => void
}

/** An open stream. Closing its scope cancels it. */
export interface DuplexStream {
  /** Sends a message. `false` means that the peer is slow: await `drained` before you send more. */
  readonly send: (message: Uint8Array) => boolean
  /** Waits until there is room for more messages, or the stream has ended. */
  readonly drained: Effect.Effect<void>
  /** Ends this side. The server can still send. */
  readonly end: () => void
  /** Stops the delivery of messages at once. The server stops sending when its flow-control window is used up. */
  readonly pause: () => void
  readonly resume: () => void
  /** Ends both sides, with `RST_STREAM(CANCEL)`. The listener is not called again. */
  readonly cancel: () => void
}

/**
 * `Idle`: not connected, and not trying to. `Connecting`: calls wait. `Ready`: connected. `Failed`: the last attempt
 * failed and the next one must wait; calls fail at once. `Closed`: the scope has closed.
 */
export type State = "Idle" | "Connecting" | "Ready" | "Failed" | "Closed"

export interface Channel {
  readonly target: Target
  /** Sends one request and returns one response. This also fits a streaming method with one message each way. */
  readonly unary: (path: string, message: Uint8Array, options?: CallOptions) => Effect.Effect<Buffer, Failure>
  /** As `unary`, with the result that `on` makes of the outcome: it costs no further effect. */
  readonly unaryMatch: <A, E>(
    path: string,
    message: Uint8Array,
    options: CallOptions,
    on: OnOutcome<A, E>
  ) => Effect.Effect<A, E>
  /** Opens a stream as soon as there is a connection with room for it. */
  readonly stream: (
    path: string,
    listener: StreamListener,
    options?: CallOptions
  ) => Effect.Effect<DuplexStream, Failure, Scope.Scope>
  readonly state: () => State
  /** Whether a call would not have to wait for a connection now. If it would, the channel begins to connect. */
  readonly isSettled: () => boolean
  /** Connects if necessary, and waits until the attempt has succeeded or failed. */
  readonly settle: Effect.Effect<void>
  /** Why the last attempt to connect failed. `undefined` while connected. */
  readonly problem: () => string | undefined
  /**
   * Opens another connection, at another address if the name has several, and moves new calls to it. The old one takes
   * calls until then, and closes when its calls have ended. Useful for a member without a leader, or changed
   * certificates.
   */
  readonly reconnect: () => void
  /**
   * Pings the current connection now, and replaces it if there is no response. Call it if the connection is suspect. It
   * does nothing if the server would count the ping as one too many.
   */
  readonly check: () => void
  /**
   * Takes no more calls: those that were not sent fail as `NotSent`. Calls in flight continue, and each connection closes
   * when its calls have ended. Completes when all have closed. Interruption ends only the wait.
   */
  readonly drain: Effect.Effect<void>
}

/** The TLS certificates and key, as PEM. */
export interface TlsMaterial {
  /** The authority to trust instead of the system's. */
  readonly ca?: string | Buffer | undefined
  readonly certificate?: string | Buffer | undefined
  readonly key?: string | Buffer | undefined
}

export interface TlsOptions {
  /** Run before each attempt to connect, so that new connections use changed certificates. */
  readonly material?: Effect.Effect<TlsMaterial, string> | undefined
  /** The name to verify and to send as SNI and `:authority`. Default: the target's host. */
  readonly serverName?: string | undefined
  /** Accepts any certificate. */
  readonly insecureSkipVerify?: boolean | undefined
}

/** An address of a host. */
export interface Address {
  readonly address: string
  readonly family: number
}

export interface ChannelOptions {
  readonly target: Target
  /** Only for targets with TLS. */
  readonly tls?: TlsOptions | undefined
  /** Resolves a name, before each attempt to connect. Default: the system's resolver. */
  readonly resolve?: ((host: string) => Effect.Effect<ReadonlyArray<Address>, string>) | undefined
  /** Default: 4 MiB. */
  readonly maxMessageSize?: number | undefined
  /** Called when the current connection responds neither to calls nor to a ping. Must not throw. */
  readonly onSilent?: (() => void) | undefined
  /** Called when another connection has replaced a silent one. Must not throw. */
  readonly onReplaced?: (() => void) | undefined
  readonly connect?: {
    /** How long one attempt may take, over all addresses, until the peer has sent its SETTINGS. Default: 5 seconds. */
    readonly timeout?: Duration.Input | undefined
    /** When the next address is tried in parallel to one that does not respond. Default: 250 ms. */
    readonly nextAddressAfter?: Duration.Input | undefined
    /**
     * When the same address is tried again in parallel to an attempt without a response, then after twice that, and so
     * on. Default: 1 second.
     */
    readonly sameAddressAfter?: Duration.Input | undefined
    /** The wait after the first failure, doubled by each further one up to the longest, with jitter. */
    readonly backoff?: { readonly first: Duration.Input; readonly longest: Duration.Input } | undefined
  } | undefined
  readonly keepAlive?: {
    /** A ping is sent after this much silence while a stream is open. Default: 10 seconds. */
    readonly time?: Duration.Input | undefined
    /**
     * The connection is closed after `time` plus `timeout` of silence, if a ping gets no response within `timeout`.
     * Default: 5 seconds.
     */
    readonly timeout?: Duration.Input | undefined
    /**
     * The shortest time between pings if the server has sent nothing else since. Default: 5 seconds, as etcd requires.
     */
    readonly minimumInterval?: Duration.Input | undefined
    /**
     * After this much silence (half of it before a ping, half of it after) with calls in flight, new calls go to a
     * second connection. Default: 1 second.
     */
    readonly suspectAfter?: Duration.Input | undefined
    /**
     * A connection that has been silent for this long is checked by a ping before the next call. Default: 10 seconds.
     */
    readonly checkIdleAfter?: Duration.Input | undefined
  } | undefined
  readonly window?: {
    /** How many bytes the server may send ahead on one stream. Default: 4 MiB. */
    readonly stream?: number | undefined
    /** How many bytes the server may send ahead on all streams together. Default: 16 MiB. */
    readonly connection?: number | undefined
  } | undefined
}

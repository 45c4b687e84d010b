/**
 * A connection in memory: two queues of frames, one for each direction.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Socket from "effect/socket/Socket"

type Frame = Uint8Array | string

export interface Connection {
  /** The reader of the side that connected. */
  readonly clientReader: Socket.Reader
  /** Sends from the side that connected. */
  readonly send: (frame: Frame | Socket.CloseEvent) => Effect.Effect<void, Socket.SocketError>
  /** The side that was connected to. */
  readonly server: Socket.Socket
  readonly close: Effect.Effect<void>
}

/** Makes a connection. `passed` waits as long as its messages are held. */
export const make = (passed: Effect.Effect<void>): Effect.Effect<Connection> =>
  Effect.gen(function*() {
    const toServer = yield* Queue.unbounded<Frame, Socket.SocketError>()
    const toClient = yield* Queue.unbounded<Frame, Socket.SocketError>()
    const closeWith = (code: number) =>
      Effect.andThen(Queue.fail(toServer, closed(code)), Effect.asVoid(Queue.fail(toClient, closed(code))))
    const close = closeWith(1000)
    const reader = (queue: Queue.Queue<Frame, Socket.SocketError>): Socket.Reader => ({
      // The end of a connection is held as its messages are.
      pull: Effect.flatMap(Effect.exit(Queue.takeAll(queue)), (taken) => Effect.andThen(passed, taken)),
      upgrade: Socket.SocketUpgradeError.unsupported
    })
    const sendTo = (queue: Queue.Queue<Frame, Socket.SocketError>) => (frame: Frame | Socket.CloseEvent) =>
      Socket.isCloseEvent(frame)
        ? closeWith(frame.code)
        : Effect.flatMap(Queue.offer(queue, frame), (isOpen) => isOpen ? Effect.void : Effect.fail(closed(1006)))
    return {
      clientReader: reader(toClient),
      send: sendTo(toServer),
      close,
      server: Socket.make({
        reader: Effect.as(Effect.addFinalizer(() => close), reader(toServer)),
        writer: Effect.succeed(writer(sendTo(toClient)))
      })
    }
  })

export const writer = (
  write: (frame: Frame | Socket.CloseEvent) => Effect.Effect<void, Socket.SocketError>
): Socket.Writer => ({
  write,
  writeAll: (frames) => Effect.forEach(frames, write, { discard: true })
})

const closed = (code: number): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code }) })

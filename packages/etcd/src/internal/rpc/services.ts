/**
 * The types of etcd3's gRPC service clients, as this package calls them.
 *
 * etcd3 makes the clients from its protobuf definitions at run time, so their methods have no types of their own. The
 * messages are typed by etcd3: int64 are strings (numbers are taken too), bytes are Buffers, absent messages are null.
 */
import type * as grpc from "@grpc/grpc-js"
import type * as etcd3 from "etcd3"

/** A method that takes a request and calls back with one response. */
export type Unary<in Request, out Response> = (
  request: Request,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  callback: (error: grpc.ServiceError | null, response?: Response) => void
) => grpc.ClientUnaryCall

/** A method that exchanges messages both ways. */
export type Duplex<Request, Response> = (
  metadata: grpc.Metadata,
  options: grpc.CallOptions
) => grpc.ClientDuplexStream<Request, Response>

export interface KvService extends grpc.Client {
  readonly range: Unary<etcd3.IRangeRequest, etcd3.IRangeResponse>
  readonly put: Unary<etcd3.IPutRequest, etcd3.IPutResponse>
  readonly deleteRange: Unary<etcd3.IDeleteRangeRequest, etcd3.IDeleteRangeResponse>
  readonly txn: Unary<etcd3.ITxnRequest, etcd3.ITxnResponse>
}

export interface LeaseService extends grpc.Client {
  readonly leaseGrant: Unary<etcd3.ILeaseGrantRequest, etcd3.ILeaseGrantResponse>
  readonly leaseRevoke: Unary<etcd3.ILeaseRevokeRequest, etcd3.ILeaseRevokeResponse>
  readonly leaseTimeToLive: Unary<etcd3.ILeaseTimeToLiveRequest, etcd3.ILeaseTimeToLiveResponse>
  readonly leaseKeepAlive: Duplex<etcd3.ILeaseKeepAliveRequest, etcd3.ILeaseKeepAliveResponse>
}

export interface WatchService extends grpc.Client {
  readonly watch: Duplex<etcd3.IWatchRequest, etcd3.IWatchResponse>
}

export interface MaintenanceService extends grpc.Client {
  readonly status: Unary<etcd3.IStatusRequest, etcd3.IStatusResponse>
}

export interface AuthService extends grpc.Client {
  readonly authenticate: Unary<etcd3.IAuthenticateRequest, etcd3.IAuthenticateResponse>
}

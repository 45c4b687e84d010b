/**
 * Verification tools, for Node: `@effect-kv/test-suite/verification`. Recorded histories and their checkers, deterministic
 * simulation, real etcd clusters, a TCP proxy with faults, and certificates.
 */
export * as LinearizabilityChecker from "./checkers/LinearizabilityChecker.ts"
export * as LockChecker from "./checkers/LockChecker.ts"
export * as QueueChecker from "./checkers/QueueChecker.ts"
export * as RevisionChecker from "./checkers/RevisionChecker.ts"
export * as ShardChecker from "./checkers/ShardChecker.ts"
export * as TickChecker from "./checkers/TickChecker.ts"
export * as Violation from "./checkers/Violation.ts"
export * as WatchChecker from "./checkers/WatchChecker.ts"
export * as EtcdBinaries from "./etcd/EtcdBinaries.ts"
export * as EtcdCluster from "./etcd/EtcdCluster.ts"
export * as GrpcProxy from "./etcd/GrpcProxy.ts"
export * as Changes from "./history/Changes.ts"
export * as History from "./history/History.ts"
export * as Recorder from "./history/Recorder.ts"
export * as PostgresServer from "./postgres/PostgresServer.ts"
export * as SynFilter from "./proxy/SynFilter.ts"
export * as TcpProxy from "./proxy/TcpProxy.ts"
export * as Simulation from "./simulation/Simulation.ts"
export * as TestCertificates from "./TestCertificates.ts"
export * as Workload from "./workload/Workload.ts"

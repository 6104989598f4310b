/** The admin socket: the CLI of an administrator calls it. It parses, asks the flows, and answers; it decides nothing. */
export { createAdminApi } from './admin-api.ts'
export type {
  AcknowledgeOrder,
  BackupAnnouncement,
  PruneOrder,
  FreezeOrder,
  KeyRotationOrder,
  LossesOrder,
  PolicyQuestion,
  ClientApprovalOrder,
  ClientRevocationOrder,
  RevokeOrder,
  RotatedSecretOrder,
  RotationOrder,
  SecretNameOrder,
  SecretOrder,
  UserOrder,
} from './contract.ts'

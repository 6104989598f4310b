/**
 * Users connect services and sign in: `flow.ts` has the order of the steps, `grant-steps.ts` and `login-steps.ts` what each does, and
 * `page.ts` the texts. The connect pages of the public listener call it with what a browser has sent.
 */
export { createConnectFlow } from './flow.ts'
export type { WaitingClient } from './attempt.ts'
export type { ClientDecision } from './client-steps.ts'
export { createIdentityTokens } from './identity-tokens.ts'
export { type ConnectLinks, createConnectLinks } from './links.ts'
export { assertClientPermitted, clientQuestion, type ClientPolicyDependencies } from './client-policy.ts'
export { createDeviceLogins, type DeviceLogin, type DeviceLogins, type DeviceLoginState } from './device-login.ts'
export { deviceCodePage, deviceConfirmPage } from './device-page.ts'
export { donePage, errorPage, onwardPage, STYLE } from './page.ts'
export { createSealedSessions } from './sealed-sessions.ts'
export type { ConnectFlow, FormFields, StepAnswer } from './step.ts'

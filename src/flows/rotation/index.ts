/**
 * The line of a rotation: `acts.ts` is its table of steps, `decide.ts` what follows after a failure, `rotators/` the targets.
 * The scheduler and the admin API call it. What is handed out works at the target before the other value is ended.
 */
export { withRotations } from './after-revocation.ts'
export { createCheckouts, type Checkouts, type CheckoutProcess } from './checkouts.ts'
export { createRotation, type RotationService } from './service.ts'
export { readLogin } from './rotators/login-secret.ts'

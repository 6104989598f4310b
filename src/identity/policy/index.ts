/** Cedar policies: which scopes a user may get through a server, and why. The exchange asks for a decision; `deputy policy` runs the examples. */
export { type Policy, type PolicyDecision, type OperationFacts, type PolicyQuestion, SIGN_IN } from './decision.ts'
export { runPolicyExamples } from './examples.ts'
export { decideJointly, type JointDecision, type JointQuestion } from './joint.ts'
export { loadPolicies } from './load.ts'
export { existingNames } from './named.ts'

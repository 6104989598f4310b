/**
 * OpenAPI documents as tools: what an operation becomes, how a request is made out of a tool's arguments, and how its answer is
 * read. It is pure: it reads no file, opens no connection, and imports `errors` and `text` only.
 */
export type {
  AnswerForm,
  ApiAnswer,
  ApiRequest,
  ApiTool,
  BodyProperty,
  BodyValue,
  CallLimits,
  Effects,
  JsonSchema,
  Operation,
  Pagination,
  Parameter,
  Place,
  PropertyEncoding,
  RequestBody,
  Style,
  ToolAnswer,
  ToolContent,
  Value,
} from './tool.ts'

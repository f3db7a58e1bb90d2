"""A stock client that knows nothing but reflection and health, and what others' stubs say of our files."""

import unittest

import grpc
import numpy as np
import tei_client.stubs.tei_pb2 as their_tei
import tritonclient.grpc.model_config_pb2 as their_config
import tritonclient.grpc.service_pb2 as their_service
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

import node

FOREIGN = [
    "inference.GRPCInferenceService",
    "tei.v1.Embed",
    "tei.v1.Info",
    "tei.v1.Predict",
    "tei.v1.Rerank",
    "tei.v1.Tokenize",
]
OURS = "switchboard.inference.v1.InferenceService"


class Reflected(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.channel = grpc.insecure_channel(node.ADDRESS)
        cls.database = ProtoReflectionDescriptorDatabase(cls.channel)
        cls.pool = descriptor_pool.DescriptorPool(cls.database)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()

    def call(self, service, method, fields, metadata=()):
        found = self.pool.FindServiceByName(service).methods_by_name[method]
        asks = message_factory.GetMessageClass(found.input_type)
        gives = message_factory.GetMessageClass(found.output_type)
        unary = self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=asks.SerializeToString,
            response_deserializer=gives.FromString,
        )
        return unary(asks(**fields), metadata=metadata, timeout=60)


class Reflection(Reflected):
    def test_every_door_is_listed(self):
        services = set(self.database.get_services())
        self.assertLessEqual({OURS, *FOREIGN, "grpc.health.v1.Health"}, services)

    def test_every_door_is_healthy(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        for service in ["", OURS, *FOREIGN]:
            request = health_pb2.HealthCheckRequest(service=service)
            self.assertEqual(health.Check(request).status, health_pb2.HealthCheckResponse.SERVING)
            watch = health.Watch(request)
            self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
            watch.cancel()

    def test_all_doors_give_the_same_vectors(self):
        tenant = [("x-switchboard-tenant", "acme")]
        texts = [golden["text"] for golden in node.goldens(node.EMBEDDER)]
        ours = self.call(OURS, "Embed", {"model": node.EMBEDDER, "texts": texts}, tenant)
        ours = np.array([vector.values for vector in ours.vectors])
        tensor = {
            "name": "text",
            "datatype": "BYTES",
            "shape": [len(texts)],
            "contents": {"bytes_contents": [text.encode() for text in texts]},
        }
        infer = {"model_name": node.EMBEDDER, "inputs": [tensor], "outputs": [{"name": "embedding"}]}
        triton = self.call("inference.GRPCInferenceService", "ModelInfer", infer)
        triton = np.frombuffer(triton.raw_output_contents[0], dtype="<f4").reshape(ours.shape)
        tei = [
            self.call("tei.v1.Embed", "Embed", {"inputs": text, "truncate": True}).embeddings
            for text in texts
        ]
        np.testing.assert_allclose(triton, ours, atol=node.TOLERANCE)
        np.testing.assert_allclose(np.array(tei), ours, atol=node.TOLERANCE)

    def test_our_own_door_wants_a_tenant(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.call(OURS, "ListModels", {})
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAUTHENTICATED)


class Contract:
    """Messages, enums and methods of some files, as plain values."""

    def __init__(self, files):
        self.messages, self.enums, self.methods = {}, {}, {}
        for file in files:
            for message in file.message_type:
                self.add(f".{file.package}", message)
            for enum in file.enum_type:
                self.enums[f".{file.package}.{enum.name}"] = {(v.name, v.number) for v in enum.value}
            for service in file.service:
                for rpc in service.method:
                    streams = (rpc.client_streaming, rpc.server_streaming)
                    self.methods[f"{service.name}/{rpc.name}"] = (rpc.input_type, rpc.output_type, streams)

    def add(self, scope, message):
        name = f"{scope}.{message.name}"
        self.messages[name] = {
            (field.number, field.name, field.type, field.label, field.type_name)
            for field in message.field
        }
        for enum in message.enum_type:
            self.enums[f"{name}.{enum.name}"] = {(v.name, v.number) for v in enum.value}
        for nested in message.nested_type:
            self.add(name, nested)


def described(*modules):
    files = []
    for module in modules:
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        files.append(file)
    return files


class Contracts(Reflected):
    """What is declared here is what the clients' own stubs have: names, numbers, types."""

    def served(self, *symbols):
        files = {}
        for symbol in symbols:
            file = self.database.FindFileContainingSymbol(symbol)
            files[file.name] = file
        return Contract(files.values())

    def check(self, ours, theirs, newer=frozenset()):
        for name, method in ours.methods.items():
            self.assertEqual(method, theirs.methods.get(name), name)
        for name, fields in ours.messages.items():
            self.assertIn(name, theirs.messages)
            added = {(name, field[1]) for field in fields - theirs.messages[name]}
            self.assertLessEqual(added, newer)
        for name, values in ours.enums.items():
            self.assertLessEqual(values, theirs.enums.get(name, set()), name)
        self.assertTrue(ours.methods and ours.messages)

    def test_open_inference(self):
        ours = self.served("inference.GRPCInferenceService", "inference.ModelConfig")
        self.check(ours, Contract(described(their_service, their_config)))
        # Whatever a request may hold is read: a field that is not known would be dropped in silence.
        theirs = Contract(described(their_service))
        for name, fields in ours.messages.items():
            if name.startswith((".inference.ModelInfer", ".inference.Infer")):
                self.assertEqual(fields, theirs.messages[name], name)

    def test_tei(self):
        # Newer than the client that it is compared with.
        newer = {(".tei.v1.EmbedRequest", "dimensions")}
        theirs = Contract(described(their_tei))
        ours = self.served("tei.v1.Embed")
        self.check(ours, theirs, newer)
        self.assertEqual(ours.methods.keys(), theirs.methods.keys())
        self.assertEqual(ours.messages.keys(), theirs.messages.keys())


if __name__ == "__main__":
    unittest.main()

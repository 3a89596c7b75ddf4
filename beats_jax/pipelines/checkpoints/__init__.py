"""Checkpoints: conversion, and proof of parity with the published code."""
